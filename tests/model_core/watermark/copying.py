"""How a stranger copies a mark: estimated from one marked picture without the key, and laid over another one."""

import numpy as np

from model_core.watermark.carriers import TILE
from model_core.watermark.frames import Frames
from model_core.watermark.masking import luma_of, noise_of

_STRENGTH = 3.0
_LOUDEST = 4.0


def copy_mark(marked: Frames, other: Frames) -> Frames:
    """Returns another picture with the mark of a marked one, both uint8 [1 height width 3] with sides of 128 pixels or more.

    The tile repeats: the mean over its places in the picture's noise is the mark, and what differs among them is the picture.
    """
    noise = np.clip(noise_of(luma_of(marked[0])), -_LOUDEST, _LOUDEST)
    places, total = np.zeros((TILE, TILE)), np.zeros((TILE, TILE))
    for top in range(0, noise.shape[0], TILE):
        for left in range(0, noise.shape[1], TILE):
            part = noise[top : top + TILE, left : left + TILE]
            total[: part.shape[0], : part.shape[1]] += part
            places[: part.shape[0], : part.shape[1]] += 1
    tile = total / places
    tile = _STRENGTH * (tile - tile.mean()) / tile.std()
    height, width = other.shape[1:3]
    pattern = np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width]
    return np.clip(np.rint(other + pattern[..., None]), 0, 255).astype(np.uint8)
