"""Which way clips move, by optical flow: does a clip whose caption says "left" move left?

Between consecutive frames one displacement for the whole frame is estimated by least squares on brightness constancy (Lucas
and Kanade 1981): d minimises sum (g_x d_x + g_y d_y + g_t)^2 over the pixels, with gradients g of smoothed grey frames. What is
flat adds nothing, so on a flat background d is the motion of what stands before it. Frames are first made smaller, to `SIDE`
pixels, where motions of a few pixels are within reach of a linear estimate. It is a probe, with a ceiling: read it beside the
figure of real clips.

Shapes: clips uint8 [n frames height width 3]; displacements [n frames-1 2], x to the right and y down, in shares of the side.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch.nn import functional

from model_core.errors import BadDataError

SIDE: Final = 32
DIRECTIONS: Final = ("left", "right", "up", "down")
LEAST_SHARE: Final = 0.06
"""A clip that goes less far than this share of its side stands still."""

_GREY: Final = torch.tensor([0.299, 0.587, 0.114])
_WORD = re.compile(rf"\b({'|'.join(DIRECTIONS)})\b", re.IGNORECASE)
_CLIPS_AT_A_TIME: Final = 64
_DAMPING: Final = 1e-6


def displacements(clips: UInt8[np.ndarray, "n frames height width 3"]) -> Float[np.ndarray, "n steps 2"]:
    """Estimates how far each clip moves from frame to frame.

    Raises:
        BadDataError: These are no clips, or clips of one frame.
    """
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.shape[1] < 2:
        raise BadDataError(f"motion needs clips of two frames or more, not {list(clips.shape)}")
    parts = [_displacements(clips[start : start + _CLIPS_AT_A_TIME]) for start in range(0, len(clips), _CLIPS_AT_A_TIME)]
    return np.concatenate(parts) if parts else np.zeros((0, clips.shape[1] - 1, 2))


def _displacements(clips: np.ndarray) -> np.ndarray:
    num_frames = clips.shape[1]
    grey = (torch.from_numpy(np.ascontiguousarray(clips)).float() / 255) @ _GREY
    frames = rearrange(grey, "n t h w -> (n t) 1 h w").double()
    if max(frames.shape[-2:]) > SIDE:
        frames = functional.interpolate(frames, size=(SIDE, SIDE), mode="area")
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64)
    kernel = torch.outer(kernel, kernel)[None, None] / 256
    smooth = functional.conv2d(functional.pad(frames, (2, 2, 2, 2), mode="replicate"), kernel)
    height, width = smooth.shape[-2:]
    smooth = rearrange(smooth, "(n t) 1 h w -> n t h w", t=num_frames)
    before, after = smooth[:, :-1], smooth[:, 1:]
    middle = (before + after) / 2
    g_x = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 2
    g_y = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 2
    g_t = (after - before)[..., 1:-1, 1:-1]
    sums = [(a * b).sum(dim=(-2, -1)) for a, b in ((g_x, g_x), (g_x, g_y), (g_y, g_y), (g_x, g_t), (g_y, g_t))]
    xx, xy, yy, xt, yt = sums
    xx, yy = xx + _DAMPING, yy + _DAMPING
    determinant = xx * yy - xy * xy
    d_x, d_y = (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant
    found: np.ndarray = torch.stack([d_x / width, d_y / height], dim=-1).numpy()
    return found


def directions(moved: Float[np.ndarray, "n steps 2"]) -> list[str]:
    """Returns where each clip goes as a whole: one of `DIRECTIONS`, or "" where it stays."""
    found = []
    for x, y in moved.sum(axis=1):
        if max(abs(x), abs(y)) < LEAST_SHARE:
            found.append("")
        elif abs(x) > abs(y):
            found.append("right" if x > 0 else "left")
        else:
            found.append("down" if y > 0 else "up")
    return found


def asked_directions(captions: Sequence[str]) -> list[str]:
    """Returns the direction that each caption names; "" where it names none, or two."""
    named = [{word.lower() for word in _WORD.findall(caption)} for caption in captions]
    return [next(iter(words)) if len(words) == 1 else "" for words in named]
