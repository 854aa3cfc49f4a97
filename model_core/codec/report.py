"""What a codec keeps of pictures, beside the best linear codec of the same shape."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.codec.patch_pca import PatchPCA
from model_core.codec.quality import psnr, ssim
from model_core.device import exact_convolutions

_BATCH = 64
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Mean fidelity of reconstructions over pictures.

    Attributes:
        psnr: Mean peak signal-to-noise ratio in dB.
        ssim: Mean structural similarity.
        num_items: Pictures measured.
    """

    psnr: float
    ssim: float
    num_items: int

    def to_dict(self) -> dict[str, float]:
        """Returns plain values, rounded as they are reported."""
        return {name: round(value, _DIGITS) for name, value in asdict(self).items()}


@torch.no_grad()
@exact_convolutions()
def reconstruct(codec: Codec, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H W"]:
    """Returns pictures after encoding and decoding, a batch at a time, wherever the codec is."""
    parts = [
        codec.decode(codec.encode(part.unsqueeze(2).to(codec.device))).squeeze(2).to(frames.device)
        for part in torch.split(frames, _BATCH)
    ]
    return torch.cat(parts) if parts else frames


def fidelity(original: Float[Tensor, "n 3 H W"], reconstruction: Float[Tensor, "n 3 H W"]) -> Fidelity:
    """Measures reconstructions.

    Raises:
        ValueError: There is no picture.
    """
    if len(original) == 0:
        raise ValueError("fidelity needs at least one picture")
    return Fidelity(
        psnr=float(psnr(original, reconstruction).mean()),
        ssim=float(ssim(original, reconstruction).mean()),
        num_items=len(original),
    )


def reconstruction_rows(codec: Codec, pca: PatchPCA | None, frames: Float[Tensor, "n 3 H W"]) -> list[Tensor]:
    """Returns rows of pictures to compare: the originals, the codec's, and the linear codec's where there is one."""
    rows = [frames, reconstruct(codec, frames)]
    return rows if pca is None else [*rows, pca.reconstruct(frames)]


def picture_grid(rows: Sequence[Tensor], *, magnify: int, gap: int = 4) -> Float[Tensor, "1 3 H W"]:
    """Returns rows of equally large pictures laid out on white, each pixel drawn as a square of `magnify` pixels."""
    n, _, height, width = rows[0].shape
    height, width = height * magnify, width * magnify
    grid = torch.ones(1, 3, len(rows) * (height + gap) + gap, n * (width + gap) + gap)
    for i, row in enumerate(rows):
        large = row.repeat_interleave(magnify, dim=2).repeat_interleave(magnify, dim=3)
        for j in range(n):
            top, left = gap + i * (height + gap), gap + j * (width + gap)
            grid[0, :, top : top + height, left : left + width] = large[j]
    return grid
