"""Fidelity of reconstructions: PSNR and SSIM."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_RANGE = 2.0  # pixels lie in [-1, 1]
_MAX_PSNR_DB = 100.0
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def psnr(original: Float[Tensor, "n 3 H W"], reconstruction: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n"]:
    """Returns the peak signal-to-noise ratio of each picture in dB, ``10 log10(range^2 / MSE)``; at most 100 dB."""
    mse = (original - reconstruction).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(_RANGE**2 / mse)).clamp_max(_MAX_PSNR_DB)


def ssim(original: Float[Tensor, "n 3 H W"], reconstruction: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n"]:
    """Returns the structural similarity of each picture, mean over colours and positions.

    Gaussian window of 11 pixels, sigma 1.5, k1 = 0.01, k2 = 0.03, only where the window fits
    (Wang et al. 2004, "Image quality assessment", IEEE TIP 13(4), eq. 13).
    """
    window = _gaussian_window(min(_WINDOW, *original.shape[-2:]))
    c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
    x, y = original, reconstruction
    mean_x, mean_y = _filter(x, window), _filter(y, window)
    var_x = _filter(x * x, window) - mean_x**2
    var_y = _filter(y * y, window) - mean_y**2
    covariance = _filter(x * y, window) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast_structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * contrast_structure).mean(dim=(1, 2, 3))


def _gaussian_window(size: int) -> Float[Tensor, "size"]:
    offsets = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    return weights / weights.sum()


def _filter(x: Float[Tensor, "n 3 H W"], window: Float[Tensor, "size"]) -> Float[Tensor, "n 3 h w"]:
    """Filters each colour by the separable window, without padding."""
    window = window.to(x)
    kernel = window.view(1, 1, -1, 1).expand(x.shape[1], 1, -1, 1)
    rows = functional.conv2d(x, kernel, groups=x.shape[1])
    return functional.conv2d(rows, kernel.transpose(2, 3), groups=x.shape[1])
