"""What a codec keeps of pictures or clips, beside the best linear codec of the same shape."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_bytes, frames_of
from model_core.codec.patch_pca import PatchPCA
from model_core.codec.quality import psnr, ssim
from model_core.device import exact_convolutions
from model_core.evaluation.clips import pixel_flicker

_BATCH = 64
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Mean fidelity of reconstructions over pictures, or over the frames of clips.

    Attributes:
        psnr: Mean peak signal-to-noise ratio in dB.
        ssim: Mean structural similarity.
        num_items: Pictures or clips measured.
    """

    psnr: float
    ssim: float
    num_items: int

    def to_dict(self) -> dict[str, float]:
        """Returns plain values, rounded as they are reported."""
        return {name: round(value, _DIGITS) for name, value in asdict(self).items()}


@torch.no_grad()
@exact_convolutions()
def reconstruct(codec: Codec, frames: Float[Tensor, "n 3 *t H W"]) -> Float[Tensor, "n 3 *t H W"]:
    """Returns pictures or clips after encoding and decoding, a batch at a time, wherever the codec is."""
    clips = frames if frames.ndim == 5 else frames.unsqueeze(2)
    parts = [
        codec.decode(codec.encode(part.to(codec.device)), part.shape[2]).to(frames.device)
        for part in torch.split(clips, max(1, _BATCH // clips.shape[2]))
    ]
    return torch.cat(parts).view_as(frames) if len(frames) else frames


def flicker(clips: Float[Tensor, "n 3 t H W"]) -> float:
    """Returns how much the pixels of clips change from frame to frame, in 0..1: their mean `pixel_flicker`, 0 of pictures."""
    return 0.0 if clips.shape[2] == 1 else float(pixel_flicker(clips_to_bytes(clips).numpy()).mean())


def fidelity(original: Float[Tensor, "n 3 *t H W"], reconstruction: Float[Tensor, "n 3 *t H W"]) -> Fidelity:
    """Measures reconstructions.

    Raises:
        ValueError: There is no picture.
    """
    if len(original) == 0:
        raise ValueError("fidelity needs at least one picture")
    frames, found = frames_of(original), frames_of(reconstruction)
    return Fidelity(
        psnr=float(psnr(frames, found).mean()),
        ssim=float(ssim(frames, found).mean()),
        num_items=len(original),
    )


def reconstruction_rows(codec: Codec, pca: PatchPCA | None, frames: Float[Tensor, "n 3 *t H W"]) -> list[Tensor]:
    """Returns rows of pictures to compare: the originals, the codec's, and the linear codec's where there is one."""
    rows = [frames, reconstruct(codec, frames)]
    return rows if pca is None else [*rows, pca.reconstruct(frames)]


def filmstrip_rows(
    codec: Codec, pca: PatchPCA | None, clips: Float[Tensor, "n 3 t H W"], *, num_shown: int
) -> list[Float[Tensor, "shown 3 H W"]]:
    """Returns rows of frames to compare, up to so many of each clip: its own, the codec's, and those of a linear codec."""
    places = torch.linspace(0, clips.shape[2] - 1, min(num_shown, clips.shape[2])).round().long()
    rows = reconstruction_rows(codec, pca, clips)
    return [row[clip][:, places].transpose(0, 1) for clip in range(len(clips)) for row in rows]


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
