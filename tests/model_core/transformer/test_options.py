"""Laws that hold for every option of the architecture."""

import pytest
import torch

from model_core.diffusion.condition import Condition
from model_core.errors import BadDataError, BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.layout import TokenLayout
from model_core.transformer.modulations import Modulations
from tests.model_core.transformer.networks import OPTIONS, awake, condition, config, latents

TIMES = torch.tensor([0.0, 250.0, 1000.0])
every_option = pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)


@every_option
def test_an_untrained_network_passes_tokens_through_and_predicts_zero(changes):
    model = DiT(config(**changes), generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    tokens = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, out: tokens.extend([args[0], out]))
    prediction = model.predict(latents(3, 2), TIMES, condition(3))
    assert not prediction.any()
    assert prediction.shape == (3, 8 if changes.get("learn_variance") else 4, 2, 4, 4)
    assert all(torch.equal(x, tokens[0]) for x in tokens)


@every_option
def test_initial_weights_follow_from_the_generator_alone_and_round_trip(changes):
    first = DiT(config(**changes), generator=torch.Generator().manual_seed(3)).state_dict()
    torch.manual_seed(123)
    second = DiT(config(**changes), generator=torch.Generator().manual_seed(3)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_option
def test_gradients_reach_every_parameter(changes):
    model = awake(config(**changes)).requires_grad_(True)
    model.predict(latents(3, 2), TIMES, condition(3)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_option
def test_samples_of_a_batch_do_not_see_each_other(changes):
    model, x_t, conditions = awake(config(**changes)), latents(3, 2), condition(3)
    together = model.predict(x_t, TIMES, conditions)
    for place in range(3):
        chosen = torch.tensor([place])
        alone = model.predict(x_t[chosen], TIMES[chosen], conditions.rows(chosen))
        torch.testing.assert_close(together[chosen], alone, atol=1e-5, rtol=1e-5)


@every_option
@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 2, 6), (3, 4, 2)])
def test_any_size_and_duration_goes_through_the_same_weights(changes, shape):
    model = awake(config(**changes))
    assert model.predict(latents(2, *shape), TIMES[:2], condition(2)).shape[2:] == shape


@every_option
def test_denoise_under_modulations_is_the_prediction(changes):
    model, x_t, c = awake(config(**changes)), latents(3, 2), condition(3)
    found = model.modulations(TIMES, c.labels, c.text, c.text_mask, c.text_states, c.text_states_mask)
    assert torch.equal(model.denoise(x_t, found), model.predict(x_t, TIMES, c))


@every_option
def test_a_table_of_modulations_gives_the_predictions_of_the_direct_path(changes):
    model, x_t, c = awake(config(**changes)), latents(2, 2), condition(2)
    steps = torch.tensor([999.0, 500.25, 1.0, 0.0])
    table = model.modulation_table(steps, c)
    assert len(table) == 4
    for place, step in enumerate(steps):
        direct = model.predict(x_t, step.expand(2), c)
        torch.testing.assert_close(model.denoise(x_t, table.at(place)), direct, atol=1e-6, rtol=1e-5)
    assert torch.equal(table.at(-1).final, table.at(3).final)
    for place in (4, -5):
        with pytest.raises(BadDataError, match="has no place"):
            table.at(place)


@every_option
def test_checkpointing_gives_the_same_gradients(changes):
    found = []
    for enabled in (False, True):
        model = awake(config(**changes)).requires_grad_(True)
        model.set_activation_checkpointing(enabled)
        model.predict(latents(3, 2), TIMES, condition(3)).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def _saved_bytes(model, x_t, times, conditions):
    """Bytes of storages that the backward pass keeps, without those of the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.predict(x_t, times, conditions).square().sum()
    return sum(kept.values()), loss


@pytest.mark.parametrize("changes", [{}, OPTIONS["all"]], ids=["default", "all"])
def test_checkpointing_saves_most_of_the_memory_for_activations(changes):
    model = awake(config(**changes, depth=6)).requires_grad_(True)
    inputs = (latents(2, 2, 16, 16), TIMES[:2], condition(2))
    whole, _ = _saved_bytes(model, *inputs)
    model.set_activation_checkpointing(True)
    checkpointed, _ = _saved_bytes(model, *inputs)
    assert checkpointed < 0.4 * whole


@pytest.mark.parametrize("name", ["factorised", "rope", "all"])
def test_frames_see_each_other(name):
    model = awake(config(**OPTIONS[name]))
    picture = model.predict(latents(2), TIMES[:2], condition(2))
    clip = model.predict(latents(2).expand(-1, -1, 3, -1, -1), TIMES[:2], condition(2))
    assert (clip[:, :, :1] - picture).abs().max() > 1e-4


def test_factorised_attention_of_a_picture_is_full_attention():
    factorised, full = awake(config(attention="factorised")), awake(config())
    state = factorised.state_dict()
    width = full.config.hidden_size
    for name in full.state_dict():
        tensor = state[name][: 6 * width] if ".adaLN_modulation" in name and "blocks" in name else state[name]
        full.state_dict()[name].copy_(tensor)
    inputs = (latents(2), TIMES[:2], condition(2))
    torch.testing.assert_close(factorised.predict(*inputs), full.predict(*inputs), atol=1e-6, rtol=1e-6)


def test_factorised_attention_mixes_frames_only_at_one_place():
    """One block, one token changed: attention within its frame spreads it there, attention over time to the same places."""
    model = awake(config(attention="factorised", depth=1))
    changed = latents(1, 3)
    changed[0, :, 1, 0, 0] += 1
    c = condition(1)
    difference = (model.predict(changed, TIMES[:1], c) - model.predict(latents(1, 3), TIMES[:1], c)).abs().amax(dim=(0, 1))
    assert difference[1].amin() > 0  # its own frame, everywhere
    assert difference[0].amin() > 0  # space before time: what the frame's tokens took up reaches the same places of other frames
    temporal_only = awake(config(attention="factorised", depth=1))
    temporal_only.blocks[0].attn.proj.weight.zero_()
    away = (
        (temporal_only.predict(changed, TIMES[:1], c) - temporal_only.predict(latents(1, 3), TIMES[:1], c)).abs().amax(dim=(0, 1))
    )
    assert away[0, :2, :2].amin() > 0  # the changed token's place in another frame
    assert away[:, 2:].amax() == 0
    assert away[:, :, 2:].amax() == 0


def test_a_network_with_cross_attention_reads_tokens_and_not_what_their_mask_hides():
    model, x_t, c = awake(config(text_conditioning="cross_attention")), latents(3), condition(3)
    base = model.predict(x_t, TIMES, c)
    hidden = torch.where(c.text_states_mask[..., None], c.text_states, torch.nan)
    masked = Condition(
        labels=c.labels,
        text=torch.full_like(c.text, 7.0),
        text_mask=c.text_mask,
        text_states=hidden,
        text_states_mask=c.text_states_mask,
    )
    assert torch.equal(model.predict(x_t, TIMES, masked), base)  # nor the pooled embedding
    other = Condition(
        labels=c.labels,
        text=c.text,
        text_mask=c.text_mask,
        text_states=c.text_states.flip(2),
        text_states_mask=c.text_states_mask,
    )
    changed = (model.predict(x_t, TIMES, other) - base).abs().amax(dim=(1, 2, 3, 4))
    assert (changed[:2] > 1e-4).all()
    assert changed[2] == 0  # it has no caption


def test_a_caption_without_tokens_is_no_caption_and_padding_changes_nothing():
    model, x_t, c = awake(config(text_conditioning="cross_attention")), latents(3), condition(3)
    longer = c.followed_by(condition(1, num_tokens=8)).rows(torch.arange(3))
    torch.testing.assert_close(model.predict(x_t, TIMES, longer), model.predict(x_t, TIMES, c), atol=1e-6, rtol=1e-6)
    empty = Condition(
        labels=c.labels,
        text=c.text,
        text_mask=c.text_mask,
        text_states=c.text_states,
        text_states_mask=torch.zeros_like(c.text_states_mask),
    )
    assert torch.equal(
        model.predict(x_t, TIMES, empty), model.predict(x_t, TIMES, Condition(**{**vars(c.null(3)), "labels": c.labels}))
    )


def test_cross_attention_without_token_states_or_with_ones_of_another_width_is_refused():
    model, c = awake(config(text_conditioning="cross_attention")), condition(2)
    plain = Condition(labels=c.labels, text=c.text, text_mask=c.text_mask)
    with pytest.raises(BadDataError, match="it got none"):
        model.predict(latents(2), TIMES[:2], plain)
    narrow = Condition(labels=c.labels, text=c.text, text_mask=c.text_mask, text_states=torch.zeros(2, 3, 4))
    with pytest.raises(BadDataError, match="of width 4"):
        model.modulation_table(TIMES, narrow)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range_is_refused_where_a_condition_enters(label):
    model, c = awake(), condition(2)
    bad = Condition(labels=torch.tensor([0, label]), text=c.text, text_mask=c.text_mask)
    with pytest.raises(BadDataError, match="out of range"):
        model.predict(latents(2), TIMES[:2], bad)
    with pytest.raises(BadDataError, match="out of range"):
        model.modulation_table(TIMES, bad)


def test_numbers_that_differ_are_refused():
    model = awake()
    with pytest.raises(BadDataError, match="3 latents, 2 timesteps, 2 conditions"):
        model.predict(latents(3), TIMES[:2], condition(2))
    modulations = model.modulation_table(TIMES[:1], condition(2)).at(0)
    with pytest.raises(BadDataError, match="3 latents and 2 modulations"):
        model.denoise(latents(3), modulations)


@pytest.mark.parametrize(
    ("shape", "message"), [((2, 4, 4, 4), "expected"), ((2, 3, 1, 4, 4), "3 channels"), ((2, 4, 1, 3, 4), "do not divide")]
)
def test_latents_of_another_shape_are_refused(shape, message):
    model = awake()
    with pytest.raises(BadModelError, match=message):
        model.predict(torch.zeros(shape), TIMES[:2], condition(2))


def test_rows_of_modulations_are_those_samples():
    model, c = awake(config(**OPTIONS["all"])), condition(3)
    found = model.modulation_table(TIMES[:1], c).at(0)
    chosen = found.rows(torch.tensor([2, 0]))
    assert isinstance(chosen, Modulations)
    expected = model.denoise(latents(3), found)[[2, 0]]
    torch.testing.assert_close(model.denoise(latents(3)[[2, 0]], chosen), expected, atol=1e-6, rtol=1e-6)


def test_a_block_asked_for_parts_that_it_lacks_is_a_bug_of_the_caller():
    plain, shared, skips = (awake(config(**OPTIONS[name])).blocks[2] for name in ("default", "shared", "skips"))
    tokens, c = torch.zeros(1, 4, 32), torch.zeros(1, 32)
    with pytest.raises(TypeError, match="no cross attention"):
        plain.keys_values(tokens)
    with pytest.raises(TypeError, match="offset"):
        shared.modulation(c, None)
    with pytest.raises(TypeError, match="long skip"):
        skips(tokens, torch.zeros(1, 192), TokenLayout.batch(1, (1, 2, 2)))
