import pytest
import torch

from model_core.codec.patch_pca import fit_patch_pca
from model_core.codec.report import fidelity, picture_grid, reconstruct, reconstruction_rows
from tests.model_core.codec.small import pictures, small_codec


def test_fidelity_is_the_mean_over_pictures() -> None:
    original = torch.zeros(2, 3, 16, 16)
    found = fidelity(original, original + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1))
    assert found.psnr == pytest.approx((20 + 40) / 2, abs=1e-3)
    assert found.num_items == 2
    with pytest.raises(ValueError, match="at least one"):
        fidelity(original[:0], original[:0])


def test_reconstruction_in_batches_equals_one_by_one() -> None:
    codec, frames = small_codec(), pictures(70, 8)
    torch.testing.assert_close(reconstruct(codec, frames)[69:], reconstruct(codec, frames[69:]), atol=1e-5, rtol=0)


def test_a_grid_shows_each_pixel_as_a_square() -> None:
    frames = pictures(3, 8)
    rows = reconstruction_rows(small_codec(), fit_patch_pca(frames, downscale=4, num_components=4), frames)
    assert len(rows) == 3
    grid = picture_grid(rows, magnify=2, gap=1)
    assert grid.shape == (1, 3, 3 * 17 + 1, 3 * 17 + 1)
    assert torch.equal(grid[0, :, 1:17:2, 18:34:2], frames[1])
    assert torch.equal(grid[0, :, 2:17:2, 19:34:2], frames[1])
    assert float(grid[0, :, 0].min()) == 1.0
