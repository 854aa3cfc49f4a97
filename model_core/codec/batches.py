"""Batches of crops for training a codec: whole pictures at coarser scales, crops at finer ones, flipped and recoloured.

Of clips, which have an axis of frames, t, more, a crop is so many frames in a row, all cut, flipped and recoloured alike.

A batch depends on the seed and the step only, so training can stop and go on anywhere without keeping a generator's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from model_core.errors import BadDataError

_STEPS_PER_SEED = 1 << 32


def to_unit_range(images: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n 3 H W"]:
    """Returns pictures of bytes as pixels in [-1, 1], channels first."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(frames: Float[Tensor, "n 3 H W"]) -> UInt8[Tensor, "n H W 3"]:
    """Returns pixels in [-1, 1] as bytes; reverses `to_unit_range`.

    Raises:
        BadDataError: A pixel is NaN, which no byte stands for.
    """
    if bool(frames.isnan().any()):
        raise BadDataError("a pixel to write as a byte is not a number", hint="pixels are numbers in [-1, 1]")
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def clips_to_unit_range(clips: UInt8[Tensor, "n frames H W 3"]) -> Float[Tensor, "n 3 frames H W"]:
    """Returns clips of bytes as pixels in [-1, 1], channels first."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def clips_to_bytes(clips: Float[Tensor, "n 3 frames H W"]) -> UInt8[Tensor, "n frames H W 3"]:
    """Returns clips in [-1, 1] as bytes; reverses `clips_to_unit_range`.

    Raises:
        BadDataError: A pixel is NaN, which no byte stands for.
    """
    frames = rearrange(clips, "n rgb t H W -> (n t) rgb H W")
    found: Tensor = rearrange(to_bytes(frames), "(n t) H W rgb -> n t H W rgb", n=len(clips))
    return found


def generator_for(seed: int, step: int) -> torch.Generator:
    """Returns the generator of one training step."""
    return torch.Generator().manual_seed((seed * _STEPS_PER_SEED + step) % (1 << 63))


def rescale(frames: Float[Tensor, "n 3 *t H W"], divisor: int) -> Float[Tensor, "n 3 *t h w"]:
    """Returns pictures or clips made smaller by an integer divisor, each pixel the mean of those it covers."""
    if divisor == 1:
        return frames
    smaller = functional.avg_pool2d(frames.flatten(0, -4), divisor)
    return smaller.view(*frames.shape[:-2], *smaller.shape[-2:])


def frames_of(clips: Float[Tensor, "n 3 *t H W"]) -> Float[Tensor, "m 3 H W"]:
    """Returns the frames of clips one after the other; of pictures they are themselves."""
    return clips if clips.ndim == 4 else rearrange(clips, "n rgb t H W -> (n t) rgb H W")


@dataclass(frozen=True, kw_only=True)
class CropSampler:
    """Draws augmented square crops from one set of pictures at several scales.

    Attributes:
        scales: The pictures at each scale, [items 3 side side], values in [-1, 1]; or clips, [items 3 t side side].
        crop_size: Side of a crop.
        crop_frames: Frames of a crop of clips.
        batch_size: Crops in a batch, spread evenly over the scales.
        seed: Decides, with the step, what is drawn.
    """

    scales: Sequence[Tensor]
    crop_size: int
    batch_size: int
    seed: int
    crop_frames: int = 1

    def draw(self, step: int) -> Float[Tensor, "n 3 *t size size"]:
        """Returns the batch of a step."""
        generator = generator_for(self.seed, step)
        counts = [len(part) for part in torch.arange(self.batch_size).tensor_split(len(self.scales))]
        crops = torch.cat([self._crops(frames, count, generator) for frames, count in zip(self.scales, counts, strict=True)])
        return _recolour(_flip(crops, generator), generator)

    def _crops(self, frames: Tensor, count: int, generator: torch.Generator) -> Float[Tensor, "count 3 *t size size"]:
        size, room = self.crop_size, frames.shape[-1] - self.crop_size + 1
        items = torch.randint(len(frames), (count,), generator=generator).tolist()
        offsets = torch.randint(room, (count, 2), generator=generator).tolist()
        if frames.ndim == 5:
            begins = torch.randint(frames.shape[2] - self.crop_frames + 1, (count,), generator=generator).tolist()
            parts = [frames[item, :, begin : begin + self.crop_frames] for item, begin in zip(items, begins, strict=True)]
        else:
            parts = [frames[item] for item in items]
        crops = [part[..., y : y + size, x : x + size] for part, (y, x) in zip(parts, offsets, strict=True)]
        return torch.stack(crops) if crops else frames[:0, ..., :size, :size]


def crop_sampler(
    frames: Float[Tensor, "n 3 *t side side"],
    *,
    divisors: Sequence[int],
    crop_size: int,
    batch_size: int,
    seed: int,
    crop_frames: int = 1,
) -> CropSampler:
    """Prepares the scales to draw from; crops of clips have `crop_frames` frames, or all where there are fewer.

    Raises:
        BadDataError: No picture, no pixels of three channels, a pixel that is not finite, or a picture smaller than a crop.
    """
    if frames.ndim not in {4, 5} or frames.shape[1] != 3 or frames.shape[-2] != frames.shape[-1]:
        raise BadDataError(f"training pictures have shape {list(frames.shape)}, expected [n, 3, side, side] or, of clips, 5 axes")
    side = frames.shape[-1]
    if len(frames) == 0:
        raise BadDataError("there is no picture to train a codec on", hint="the dataset's training split is empty")
    if not bool(frames.isfinite().all()):
        raise BadDataError("a pixel of the training pictures is not a finite number", hint="pixels are numbers in [-1, 1]")
    for divisor in divisors:
        if side % divisor or side // divisor < crop_size:
            raise BadDataError(
                f"pictures of {side} px divided by {divisor} give no crops of {crop_size} px",
                hint="use larger pictures, a smaller crop_size or other scales",
            )
    scales = [rescale(frames, divisor) for divisor in divisors]
    crop_frames = min(crop_frames, frames.shape[2]) if frames.ndim == 5 else 1
    return CropSampler(scales=scales, crop_size=crop_size, crop_frames=crop_frames, batch_size=batch_size, seed=seed)


def _flip(crops: Float[Tensor, "n 3 *t H W"], generator: torch.Generator) -> Float[Tensor, "n 3 *t H W"]:
    """Mirrors half of the crops left to right and, independently, half of them upside down."""
    horizontal, vertical = (torch.rand(2, len(crops), *(1,) * (crops.ndim - 1), generator=generator) < 0.5).unbind()
    crops = torch.where(horizontal, crops.flip(-1), crops)
    return torch.where(vertical, crops.flip(-2), crops)


def _recolour(crops: Float[Tensor, "n 3 *t H W"], generator: torch.Generator) -> Float[Tensor, "n 3 *t H W"]:
    """Permutes red, green and blue at random in half of the crops; the others keep the colours of the data."""
    order = torch.rand(len(crops), 3, generator=generator).argsort(dim=1)  # [n 3]
    kept = torch.rand(len(crops), 1, generator=generator) < 0.5
    order = torch.where(kept, torch.arange(3), order)
    return torch.gather(crops, 1, order.view(*order.shape, *(1,) * (crops.ndim - 2)).expand_as(crops))
