"""The published network: our conversion of its weights against two networks that are not ours."""

import pytest
import torch

from benchmarks.peers.dit_reference import SIZES, ReferenceDiT
from model_core.errors import BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.presets import preset, reference
from model_core.transformer.reference_weights import from_reference, reference_architecture, to_reference
from tests.model_core.transformer.networks import config

SIDE, HEADS, LABELS = 8, 4, 5
TIMES, CLASSES = torch.tensor([0.0, 17.0, 999.0]), torch.tensor([0, LABELS, 2])


@pytest.fixture
def published():
    """A small network with the published one's parts, away from zero."""
    generator = torch.Generator().manual_seed(0)
    model = ReferenceDiT(input_size=SIDE, hidden_size=48, depth=3, num_heads=HEADS, num_classes=LABELS, fused_attention=False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False)


def _ours(state):
    architecture = reference_architecture(state, num_heads=HEADS)
    model = DiT(architecture).requires_grad_(False)
    model.load_state_dict(from_reference(state, architecture))
    return model


def _predict(model, x):
    count = len(x)
    return model(x[:, :, None], TIMES, CLASSES, torch.zeros(count, 0), torch.zeros(count, dtype=torch.bool))[:, :, 0]


def _latents():
    return torch.randn(3, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_the_published_weights_give_the_published_prediction(published):
    expected = published(_latents(), TIMES, CLASSES)
    assert expected.shape == (3, 8, SIDE, SIDE)
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(_predict(_ours(published.state_dict()), _latents()), expected, atol=1e-5, rtol=1e-5)


def test_gradients_agree_too(published):
    ours = _ours(published.state_dict()).requires_grad_(True)
    published.requires_grad_(True)
    published.pos_embed.requires_grad_(False)
    published(_latents(), TIMES, CLASSES).square().sum().backward()
    _predict(ours, _latents()).square().sum().backward()
    theirs = {name: p.grad for name, p in published.named_parameters() if p.requires_grad}
    for name, parameter in ours.named_parameters():
        if not name.startswith("x_embedder"):
            scale = float(theirs[name].abs().max())
            torch.testing.assert_close(parameter.grad, theirs[name], atol=1e-5 * max(1.0, scale), rtol=1e-4)


def test_conversion_there_and_back_changes_nothing(published):
    state = published.state_dict()
    architecture = reference_architecture(state, num_heads=HEADS)
    weights = from_reference(state, architecture)
    back = to_reference(weights, architecture, input_size=SIDE)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state if name != "pos_embed")
    torch.testing.assert_close(back["pos_embed"], state["pos_embed"], atol=1e-6, rtol=0)
    again = from_reference(back, architecture)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert len({tensor.data_ptr() for tensor in [*weights.values(), *state.values()]}) == len(weights) + len(state)  # copies


@pytest.mark.parametrize("size", SIZES)
def test_names_and_shapes_are_the_published_ones(size):
    depth, width, heads = SIZES[size]
    with torch.device("meta"):
        state = ReferenceDiT(depth=depth, hidden_size=width, num_heads=heads).state_dict()
        weights = dict(DiT(reference(f"DiT-{size}/2")).named_parameters())
    assert reference_architecture(state, num_heads=heads) == reference(f"DiT-{size}/2")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name not in {"pos_embed", "x_embedder.proj.weight"}}
    shapes["x_embedder.weight"], shapes["x_embedder.bias"] = (width, 16), shapes.pop("x_embedder.proj.bias")
    assert shapes == {name: tuple(tensor.shape) for name, tensor in weights.items()}
    assert state["x_embedder.proj.weight"].shape == (width, 4, 2, 2)
    assert state["pos_embed"].shape == (1, 256, width)


def _diffusers_state(state, depth):
    """Our copy of the published names as diffusers calls them."""
    found = {
        "pos_embed.proj.weight": state["x_embedder.proj.weight"],
        "pos_embed.proj.bias": state["x_embedder.proj.bias"],
        "proj_out_1.weight": state["final_layer.adaLN_modulation.1.weight"],
        "proj_out_1.bias": state["final_layer.adaLN_modulation.1.bias"],
        "proj_out_2.weight": state["final_layer.linear.weight"],
        "proj_out_2.bias": state["final_layer.linear.bias"],
    }
    for place in range(depth):
        here, there = f"blocks.{place}.", f"transformer_blocks.{place}."
        for kind in ("weight", "bias"):
            for layer, part in zip("qkv", state[f"{here}attn.qkv.{kind}"].chunk(3), strict=True):
                found[f"{there}attn1.to_{layer}.{kind}"] = part
            found[f"{there}attn1.to_out.0.{kind}"] = state[f"{here}attn.proj.{kind}"]
            found[f"{there}ff.net.0.proj.{kind}"] = state[f"{here}mlp.fc1.{kind}"]
            found[f"{there}ff.net.2.{kind}"] = state[f"{here}mlp.fc2.{kind}"]
            found[f"{there}norm1.linear.{kind}"] = state[f"{here}adaLN_modulation.1.{kind}"]
            found[f"{there}norm1.emb.timestep_embedder.linear_1.{kind}"] = state[f"t_embedder.mlp.0.{kind}"]
            found[f"{there}norm1.emb.timestep_embedder.linear_2.{kind}"] = state[f"t_embedder.mlp.2.{kind}"]
        found[f"{there}norm1.emb.class_embedder.embedding_table.weight"] = state["y_embedder.embedding_table.weight"]
    return found


def test_diffusers_network_gives_the_same_prediction(published):
    from diffusers import DiTTransformer2DModel

    theirs = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=SIDE,
        num_embeds_ada_norm=LABELS,
        norm_eps=1e-6,
    ).eval()
    missing, unexpected = theirs.load_state_dict(_diffusers_state(published.state_dict(), 3), strict=False)
    assert not unexpected
    assert all("pos_embed" in name for name in missing)
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # as published; the library's 1 is another network
    with torch.no_grad():
        expected = theirs(_latents(), TIMES.long(), CLASSES).sample
    torch.testing.assert_close(_predict(_ours(published.state_dict()), _latents()), expected, atol=1e-5, rtol=1e-5)


def _without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


def test_unsound_state_dicts_are_refused_in_one_line(published):
    state = published.state_dict()
    architecture = reference_architecture(state, num_heads=HEADS)
    name = "blocks.1.attn.qkv.bias"
    nan = state[name].clone()
    nan[3] = torch.nan
    for bad, message in [
        (_without(state, name), f"lack or add: {name}"),
        ({**state, "extra": torch.zeros(1)}, "lack or add: extra"),
        ({}, "and 38 more"),
        ({**state, name: torch.zeros(3)}, r"expected floating-point numbers \[144\]"),
        ({**state, name: state[name].long()}, "int64"),
        ({**state, name: nan}, f"{name} holds a number that is not finite"),
        ({**state, "pos_embed": state["pos_embed"] + 0.01}, "other positions"),
        ({**state, "pos_embed": torch.zeros(3)}, "pos_embed is"),
        ({**state, "x_embedder.proj.weight": torch.zeros(48, 16)}, "x_embedder.proj.weight is"),
    ]:
        with pytest.raises(BadModelError, match=message) as caught:
            from_reference(bad, architecture)
        assert "\n" not in str(caught.value)


def test_a_state_dict_that_tells_no_architecture_is_refused(published):
    state = published.state_dict()
    for bad in (
        {},
        _without(state, "x_embedder.proj.weight"),
        {**state, "x_embedder.proj.weight": torch.zeros(3)},
        {name: tensor for name, tensor in state.items() if "blocks" not in name},
        {**state, "final_layer.linear.bias": torch.tensor(0.0)},
        {**state, "x_embedder.proj.weight": torch.zeros(48, 4, 0, 0)},
    ):
        with pytest.raises(BadModelError) as caught:
            reference_architecture(bad, num_heads=HEADS)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadModelError, match="not a multiple"):
        reference_architecture(state, num_heads=5)


def test_half_precision_becomes_single_and_positions_may_be_absent(published):
    state = {name: tensor.half() for name, tensor in published.state_dict().items() if name != "pos_embed"}
    weights = from_reference(state, reference_architecture(state, num_heads=HEADS))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_an_architecture_with_other_parts_has_no_published_form(published):
    state = published.state_dict()
    with pytest.raises(BadModelError, match="no choice of"):
        from_reference(state, preset("tiny-modern", in_channels=4))
    for changes in ({"text_dim": 5}, {"text_dim": 0, "patch_size": (2, 2, 2)}, {"text_dim": 0, "patch_size": (1, 1, 2)}):
        architecture = config(**changes)
        with pytest.raises(BadModelError, match="no choice of"):
            to_reference(dict(DiT(architecture).named_parameters()), architecture, input_size=SIDE)


def test_weights_of_another_network_are_not_written(published):
    architecture = reference_architecture(published.state_dict(), num_heads=HEADS)
    weights = from_reference(published.state_dict(), architecture)
    for bad in (
        _without(weights, "x_embedder.weight"),
        _without(weights, "final_layer.linear.bias"),
        {**weights, "x_embedder.weight": torch.zeros(3, 3)},
        {**weights, "extra": torch.zeros(1)},
    ):
        with pytest.raises(BadModelError):
            to_reference(bad, architecture, input_size=SIDE)
    with pytest.raises(BadModelError, match="do not divide"):
        to_reference(weights, architecture, input_size=7)
