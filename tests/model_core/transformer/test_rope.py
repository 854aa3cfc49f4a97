import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.transformer.rope import (
    _turned,
    _turned_as_complex,
    axis_frequencies,
    grid_rotations,
    pairs_per_axis,
    rotate,
)
from tests.model_core.transformer.networks import awake, condition, config, latents

HEAD = 16
GRID = (3, 4, 5)


def _token(t, h, w, grid=GRID):
    return (t * grid[1] + h) * grid[2] + w


def _logit(query, key, at_query, at_key):
    """The product of one query and key vector placed at two tokens of the grid."""
    rotations = grid_rotations(GRID, HEAD)
    turned = [
        rotate(x.view(1, 1, 1, HEAD), rotations[_token(*place)][None]).flatten()
        for x, place in ((query, at_query), (key, at_key))
    ]
    return float(turned[0] @ turned[1])


@given(data=st.data())
def test_logits_depend_on_the_difference_of_coordinates_alone(data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    query, key = torch.randn(2, HEAD, generator=generator)
    differences = [data.draw(st.integers(0, side - 1)) for side in GRID]
    first, second = (
        [data.draw(st.integers(0, side - 1 - gap)) for side, gap in zip(GRID, differences, strict=True)] for _ in range(2)
    )
    logits = [
        _logit(query, key, place, [x + gap for x, gap in zip(place, differences, strict=True)]) for place in (first, second)
    ]
    assert logits[0] == pytest.approx(logits[1], abs=1e-4)


def test_rotations_agree_with_a_loop():
    rotations = grid_rotations(GRID, HEAD)
    axes = [axis for axis, pairs in enumerate(pairs_per_axis(HEAD)) for _ in range(pairs)]
    for place in [(0, 0, 0), (2, 3, 4), (1, 0, 2)]:
        within = dict.fromkeys(range(3), 0)
        for pair, axis in enumerate(axes):
            angle = place[axis] / 10_000 ** (within[axis] / axes.count(axis))
            within[axis] += 1
            assert rotations[_token(*place), 0, pair].tolist() == pytest.approx([math.cos(angle), math.sin(angle)], abs=1e-6)


@given(head_dim=st.integers(3, 128).map(lambda half: 2 * half))
def test_every_axis_has_pairs_and_all_pairs_have_an_axis(head_dim):
    pairs = pairs_per_axis(head_dim)
    assert sum(pairs) == head_dim // 2
    assert min(pairs) >= 1
    assert pairs[1] == pairs[2]


@given(seed=st.integers(0, 2**31))
def test_rotating_keeps_lengths(seed):
    x = torch.randn(2, math.prod(GRID), 3, HEAD, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(rotate(x, grid_rotations(GRID, HEAD)).norm(dim=-1), x.norm(dim=-1))


@given(seed=st.integers(0, 2**31), head_dim=st.integers(3, 40).map(lambda half: 2 * half))
def test_rotating_is_multiplying_complex_numbers_however_it_is_computed(seed, head_dim):
    pairs = torch.randn(2, math.prod(GRID), 3, head_dim // 2, 2, generator=torch.Generator().manual_seed(seed))
    rotations = grid_rotations(GRID, head_dim)
    exact = torch.view_as_complex(pairs.double()) * torch.view_as_complex(rotations.double())
    expected = torch.view_as_real(exact).float()
    for turned in (_turned(pairs, rotations), _turned_as_complex(pairs, rotations)):
        torch.testing.assert_close(turned, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rotate(pairs.flatten(-2), rotations), expected.flatten(-2), rtol=1e-6, atol=1e-6)


def test_half_precision_comes_back_as_half_precision():
    x = torch.randn(1, math.prod(GRID), 2, HEAD, generator=torch.Generator().manual_seed(0))
    found = rotate(x.bfloat16(), grid_rotations(GRID, HEAD))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), rotate(x, grid_rotations(GRID, HEAD)), atol=0.05, rtol=0.05)


def test_the_first_frame_of_a_clip_stands_where_a_picture_stands():
    assert torch.equal(grid_rotations((3, 4, 5), HEAD)[:20], grid_rotations((1, 4, 5), HEAD))
    time = pairs_per_axis(HEAD)[0]
    assert torch.equal(grid_rotations((1, 4, 5), HEAD)[:, :, :time], torch.tensor([1.0, 0.0]).expand(20, 1, time, 2))


def test_stretching_keeps_the_fastest_turn_and_slows_the_slowest_by_the_stretch():
    plain, stretched = axis_frequencies(6), axis_frequencies(6, stretch=4.0)
    assert plain[0] == stretched[0] == 1
    assert float(plain[-1] / stretched[-1]) == pytest.approx(4.0)
    assert torch.equal(axis_frequencies(1, stretch=4.0), axis_frequencies(1))


def test_a_grid_no_longer_than_in_training_is_not_stretched_and_a_longer_axis_stretches_alone():
    assert torch.equal(grid_rotations((1, 4, 4), HEAD, (1, 8, 8)), grid_rotations((1, 4, 4), HEAD))
    time, rows, _ = pairs_per_axis(HEAD)
    wide = grid_rotations((1, 4, 16), HEAD, (1, 8, 8))
    plain = grid_rotations((1, 4, 16), HEAD)
    assert torch.equal(wide[:, :, : time + rows], plain[:, :, : time + rows])
    assert not torch.equal(wide[:, :, time + rows :], plain[:, :, time + rows :])


def test_positions_are_told_apart_by_rotations_alone():
    """Without added positions, a network that permutes tokens would permute its output; rotations must break that."""
    model, x_t = awake(config(positions="rope")), latents(1)
    flipped = model.predict(x_t.flip(4), torch.zeros(1), condition(1)).flip(4)
    patches_flipped = model.predict(x_t.unflatten(4, (2, 2)).flip(4).flatten(4), torch.zeros(1), condition(1))
    back = patches_flipped.unflatten(4, (2, 2)).flip(4).flatten(4)
    base = model.predict(x_t, torch.zeros(1), condition(1))
    assert (flipped - base).abs().max() > 1e-4
    assert (back - base).abs().max() > 1e-6


def test_a_network_with_a_trained_grid_takes_larger_ones():
    model = awake(config(positions="rope", rope_grid=(1, 2, 2)))
    plain = awake(config(positions="rope"))
    small, large = latents(1), latents(1, 2, 8, 8)
    arguments = (torch.zeros(1), condition(1))
    assert torch.equal(model.predict(small, *arguments), plain.predict(small, *arguments))
    assert not torch.equal(model.predict(large, *arguments), plain.predict(large, *arguments))
