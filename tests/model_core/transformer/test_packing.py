import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.errors import BadDataError, BadModelError
from model_core.transformer.layout import TokenLayout
from model_core.transformer.packing import denoise_packed, first_fit_decreasing, packed_rows, padding_fraction
from tests.model_core.transformer.networks import OPTIONS, awake, condition, config, latents

SHAPES = [(1, 4, 4), (3, 2, 4), (1, 4, 4), (2, 6, 2), (1, 2, 2)]
every_option = pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)


def _modulations(model, count):
    c = condition(count)
    times = torch.linspace(0, 1000, count)
    return model.modulations(times, c.labels, c.text, c.text_mask, c.text_states, c.text_states_mask)


def _samples():
    return [latents(1, *shape, seed=place)[0] for place, shape in enumerate(SHAPES)]


@every_option
def test_packed_samples_are_denoised_as_each_on_its_own(changes):
    model, samples = awake(config(**changes)), _samples()
    modulations = _modulations(model, len(samples))
    for place, found in enumerate(denoise_packed(model, samples, modulations)):
        alone = model.denoise(samples[place][None], modulations.rows(torch.tensor([place])))[0]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("changes", [{}, OPTIONS["all"]], ids=["default", "all"])
def test_gradients_of_packed_samples_are_those_of_each_on_its_own(changes, checkpointing):
    samples, gradients = _samples(), []
    for packed in (True, False):
        model = awake(config(**changes)).requires_grad_(True)
        model.set_activation_checkpointing(checkpointing)
        modulations = _modulations(model, len(samples))
        if packed:
            found = denoise_packed(model, samples, modulations)
        else:
            found = [model.denoise(x[None], modulations.rows(torch.tensor([place])))[0] for place, x in enumerate(samples)]
        sum(x.square().mean() for x in found).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_one_sample_packs_too():
    model = awake()
    modulations = _modulations(model, 1)
    (found,) = denoise_packed(model, _samples()[:1], modulations)
    torch.testing.assert_close(found, model.denoise(_samples()[0][None], modulations)[0], atol=1e-6, rtol=1e-6)


def test_what_cannot_be_packed_is_refused():
    model = awake()
    modulations = _modulations(model, 2)
    with pytest.raises(BadDataError, match="0 latents and 2 modulations"):
        denoise_packed(model, [], modulations)
    with pytest.raises(BadDataError, match="5 latents and 2 modulations"):
        denoise_packed(model, _samples(), modulations)
    with pytest.raises(BadModelError, match="latents to pack"):
        denoise_packed(model, [torch.zeros(1, 4, 1, 4, 4)] * 2, modulations)
    with pytest.raises(BadModelError, match="do not divide"):
        denoise_packed(model, [torch.zeros(4, 1, 3, 4)] * 2, modulations)


@given(lengths=st.lists(st.integers(1, 50)), capacity=st.integers(50, 200))
def test_every_sample_is_in_one_row_and_rows_are_few(lengths, capacity):
    rows = first_fit_decreasing(lengths, capacity)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    loads = [sum(lengths[place] for place in row) for row in rows]
    assert all(0 < load <= capacity for load in loads)
    assert all(one + other > capacity for one, other in itertools.combinations(loads, 2))  # no two rows would fit into one
    assert rows == first_fit_decreasing(lengths, capacity)


def test_a_realistic_mix_of_pictures_and_clips_pads_less_than_two_hundredths():
    chance = random.Random(0)
    sizes = [(h, w) for h in range(8, 33, 4) for w in range(8, 33, 4) if max(h, w) <= 2 * min(h, w)]
    lengths = [chance.choice([1, 1, 1, 2, 4]) * h * w for h, w in chance.choices(sizes, k=600)]
    rows = first_fit_decreasing(lengths, 8192)
    assert len(rows) > 20
    assert padding_fraction(rows, lengths, 8192) < 0.02
    assert padding_fraction([], [], 8192) == 0


def test_rows_of_shapes_count_tokens_by_the_patch():
    assert packed_rows(config(), [(1, 4, 4), (2, 4, 4), (1, 2, 4)], max_tokens=8) == [[1], [0, 2]]
    with pytest.raises(BadModelError, match="do not divide"):
        packed_rows(config(), [(1, 3, 4)], max_tokens=8)
    with pytest.raises(BadDataError, match="has 8 tokens"):
        packed_rows(config(), [(2, 4, 4)], max_tokens=7)


@pytest.mark.parametrize("length", [0, 11])
def test_a_sample_that_fits_no_row_is_refused(length):
    with pytest.raises(BadDataError, match=f"sample 1 has {length} tokens"):
        first_fit_decreasing([3, length], 10)


@given(grids=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), min_size=1))
def test_join_reverses_split(grids):
    layout = TokenLayout.pack(grids)
    total = sum(t * h * w for t, h, w in grids)
    x = torch.arange(2.0 * total).view(1, total, 2)
    parts = layout.split(x)
    assert layout.num_samples == len(grids)
    assert [len(part) for part in parts] == [run.count for run in layout.runs]
    assert torch.equal(layout.join(parts), x)
