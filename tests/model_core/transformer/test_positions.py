import math

import pytest
import torch

from model_core.transformer.positions import grid_positions, sinusoid


def _naive(position, dim):
    half = dim // 2
    angles = [position / 10_000 ** (index / half) for index in range(half)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def test_sinusoid_agrees_with_a_loop():
    expected = torch.tensor([_naive(position, 8) for position in (0.0, 1.0, 2.5, 999.0)])
    torch.testing.assert_close(sinusoid(torch.tensor([0.0, 1.0, 2.5, 999.0]), 8), expected)


@pytest.mark.parametrize("grid", [(1, 2, 3), (3, 2, 2)])
def test_grid_positions_agree_with_a_loop(grid):
    dim = 16
    rows = []
    for t in range(grid[0]):
        for h in range(grid[1]):
            for w in range(grid[2]):
                space = _naive(w, dim // 2) + _naive(h, dim // 2)
                rows.append([s + a - b for s, a, b in zip(space, _naive(t, dim), _naive(0, dim), strict=True)])
    torch.testing.assert_close(grid_positions(grid, dim), torch.tensor(rows))


def test_a_token_stands_at_the_same_place_in_a_larger_grid():
    small, large = grid_positions((1, 2, 2), 16), grid_positions((2, 5, 4), 16)
    assert torch.equal(small[3], large[1 * 4 + 1])
