"""Puts a watermark into pictures and clips: additive spread spectrum under a perceptual mask (Cox et al. 1997)."""

import numpy as np

from model_core.watermark.carriers import draw_carriers, lay_tiles, modulate
from model_core.watermark.frames import Frames, check_frames
from model_core.watermark.masking import Plane, luma_of, strength_at

MIN_PSNR_DB = 38.3
"""What is left of a frame's fidelity, to within rounding: in frames that are texture all over, the mark is made weaker for it."""


def embed(frames: Frames, key: bytes, payload: bytes | None = None) -> Frames:
    """Returns frames with a watermark.

    The pattern is added to all three colours alike, so that it is in the luma alone, and is the same in each frame.
    The same input gives the same bytes.

    Args:
        frames: RGB pixels, uint8 [frames height width 3]; a picture is a clip of one frame.
        key: Secret of at least 16 bytes.
        payload: An id of six bytes; without one the mark says only that it is there, and is found in smaller pictures.

    Returns:
        Pixels of the same shape.

    Raises:
        BadDataError: Frames, key or payload are not as described.
    """
    check_frames(frames)
    carriers = draw_carriers(key)
    pattern = lay_tiles(carriers, modulate(carriers, payload), *frames.shape[1:3])
    return np.stack([_mark(frame, pattern) for frame in frames])


def _mark(frame: Frames, pattern: Plane) -> Frames:
    """Returns one frame [height width 3] with the pattern [height width] in it."""
    wave = (pattern * strength_at(luma_of(frame)))[..., None]
    marked = _add(frame, wave)
    error = float(np.mean((marked.astype(np.float32) - frame) ** 2))
    allowed = 255.0**2 / 10 ** (MIN_PSNR_DB / 10)
    return marked if error <= allowed else _add(frame, wave * np.float32(np.sqrt(allowed / error)))


def _add(frame: Frames, wave: Plane) -> Frames:
    return np.asarray(np.clip(np.rint(frame + wave), 0, 255), dtype=np.uint8)
