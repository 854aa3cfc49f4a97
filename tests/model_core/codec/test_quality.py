import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.codec.quality import psnr, ssim


@given(error=st.floats(0.001, 1.0))
def test_psnr_of_a_constant_error_has_a_closed_form(error: float) -> None:
    original = torch.zeros(2, 3, 8, 8)
    expected = 20 * math.log10(2 / error)
    assert psnr(original, original + error).tolist() == pytest.approx([expected] * 2, abs=1e-3)


def test_equal_pictures_have_the_highest_values() -> None:
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert psnr(x, x).tolist() == [100.0, 100.0]
    assert ssim(x, x).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


def ssim_by_loop(x: torch.Tensor, y: torch.Tensor) -> float:
    """Wang et al. 2004, eq. 13, window by window in float64."""
    offsets = [i - 5 for i in range(11)]
    weights = torch.tensor([[math.exp(-(a * a + b * b) / (2 * 1.5**2)) for b in offsets] for a in offsets], dtype=torch.float64)
    weights /= weights.sum()
    c1, c2, found = (0.01 * 2) ** 2, (0.03 * 2) ** 2, []
    for colour in range(3):
        for top in range(x.shape[1] - 10):
            for left in range(x.shape[2] - 10):
                p, q = (z[colour, top : top + 11, left : left + 11].double() for z in (x, y))
                mp, mq = (weights * p).sum(), (weights * q).sum()
                vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
                cov = (weights * (p - mp) * (q - mq)).sum()
                found.append(float((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))))
    return sum(found) / len(found)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), noise=st.floats(0.01, 0.5))
def test_ssim_is_the_mean_over_windows(seed: int, noise: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 13, 12, generator=generator) * 2 - 1
    y = x + noise * torch.randn(x.shape, generator=generator)
    assert float(ssim(x[None], y[None])) == pytest.approx(ssim_by_loop(x, y), abs=1e-4)


def test_pictures_smaller_than_the_window_are_measured_too() -> None:
    x = torch.rand(1, 3, 8, 8)
    assert ssim(x, x).tolist() == pytest.approx([1.0], abs=1e-5)
