import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.transformer.patchify import patchify, unpatchify

SIDES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@given(batch=st.integers(1, 3), channels=st.integers(1, 4), patch=SIDES, grid=SIDES)
def test_unpatchify_reverses_patchify(batch, channels, patch, grid):
    sides = [p * g for p, g in zip(patch, grid, strict=True)]
    latents = torch.arange(batch * channels * sides[0] * sides[1] * sides[2], dtype=torch.float32).view(batch, channels, *sides)
    tokens = patchify(latents, patch)
    assert tokens.shape == (batch, grid[0] * grid[1] * grid[2], channels * patch[0] * patch[1] * patch[2])
    assert torch.equal(unpatchify(tokens, patch, grid), latents)


def test_a_token_is_a_spacetime_patch_in_order_of_frames_rows_columns():
    latents = torch.arange(2 * 4 * 4 * 6, dtype=torch.float32).view(1, 2, 4, 4, 6)
    tokens = patchify(latents, (2, 2, 3))
    expected = latents[0, :, 2:4, 2:4, 0:3].permute(1, 2, 3, 0).reshape(-1)  # second in time, second row, first column
    assert torch.equal(tokens[0, 4 + 2], expected)
