"""How much a picture hides where, and how a detector takes the picture off.

The luma of a frame is float32 [height width], 0 to 255.
"""

import numpy as np
import numpy.typing as npt

FLAT_STRENGTH = 2.0
"""Standard deviation of the mark where the picture is flat, in grey levels."""
TEXTURE_SHARE = 0.5
"""How much of the standard deviation of the texture the mark may have in addition."""
MAX_STRENGTH = 5.0
TOLERANCE = 24.0
"""Neighbours that differ by this many grey levels or more are of another part of the picture."""

_TEXTURE_RADIUS = 4
_REACH, _STRIDE = 3, 2
_NOISE_RADIUS = 8
_NOISE_FLOOR = 1.5
_BT601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ONE_SIDED = np.float32(np.sqrt(2))

Plane = npt.NDArray[np.float32]


def luma_of(frame: npt.NDArray[np.uint8]) -> Plane:
    """Returns the BT.601 luma of RGB pixels [height width 3]."""
    return np.asarray(frame @ _BT601, dtype=np.float32)


def strength_at(luma: Plane) -> Plane:
    """Returns the standard deviation that the mark is given at each pixel, in grey levels.

    It grows with the texture, which hides noise (noise visibility function: Voloshynovskiy et al. 1999, "A stochastic approach to
    content adaptive digital image watermarking"), but not with edges, beside which noise is seen. Where the luma is next to black
    or white only one half of a wave has room; that half is made stronger by the square root of two, which keeps the power.
    """
    noise = noise_of(luma)
    texture = np.sqrt(box_mean(noise * noise, _TEXTURE_RADIUS))
    strength = np.minimum(FLAT_STRENGTH + TEXTURE_SHARE * texture, MAX_STRENGTH)
    no_room = (luma > 255 - strength) | (luma < strength)
    return np.asarray(np.where(no_room, strength * _ONE_SIDED, strength), dtype=np.float32)


def noise_of(luma: Plane) -> Plane:
    """Returns how far each pixel lies from those of its neighbours that are alike, times the share of such neighbours.

    This is the residual of a sigma filter (Lee 1983, "Digital image smoothing and the sigma filter"). Edges, at which nothing is
    alike, leave nothing behind; in the residual of a linear filter they drown a mark.
    """
    height, width = luma.shape
    noise = np.zeros_like(luma)
    taps = [
        (_STRIDE * down, _STRIDE * across)
        for down in range(_REACH + 1)
        for across in range(-_REACH, _REACH + 1)
        if down > 0 or across > 0
    ]
    for down, across in taps:
        if down >= height or abs(across) >= width:
            continue
        here = (slice(0, height - down), slice(max(0, -across), width - max(0, across)))
        there = (slice(down, height), slice(max(0, across), width - max(0, -across)))
        difference = luma[here] - luma[there]
        difference *= np.abs(difference) < TOLERANCE
        noise[here] += difference
        noise[there] -= difference
    return np.asarray(noise / np.float32(2 * len(taps)))


def take_picture_off(luma: Plane) -> Plane:
    """Returns a frame's noise divided by its local standard deviation, so that textured parts do not outweigh flat ones."""
    noise = noise_of(luma)
    return np.asarray(noise / (np.sqrt(box_mean(noise * noise, _NOISE_RADIUS)) + np.float32(_NOISE_FLOOR)))


def box_mean(plane: Plane, radius: int) -> Plane:
    """Returns the mean over a square window of ``2 radius + 1`` pixels a side, cut at the borders."""
    return _running_mean(_running_mean(plane, radius).T, radius).T


def _running_mean(plane: Plane, radius: int) -> Plane:
    height, width = plane.shape
    total = np.zeros((height, width + 1))
    np.cumsum(plane, axis=1, out=total[:, 1:])
    at = np.arange(width)
    start, stop = np.maximum(at - radius, 0), np.minimum(at + radius + 1, width)
    mean = (total[:, stop] - total[:, start]) / (stop - start)
    # Differences of sums may fall a rounding error under the zero that they stand for.
    return np.asarray(np.maximum(mean, plane.min()), dtype=np.float32)
