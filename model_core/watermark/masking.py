"""How much a picture hides where, and how a detector takes the picture off.

The luma of a frame is float32 [height width], 0 to 255.
"""

import numpy as np
import numpy.typing as npt

FLAT_STRENGTH = 2.2
"""Standard deviation of the mark where the picture is flat, in grey levels."""
TEXTURE_SHARE = 0.06
"""How much of the luma's standard deviation in its neighbourhood the mark may have in addition."""
MAX_STRENGTH = 5.0
TOLERANCE = 24.0
"""Neighbours that differ by this many grey levels or more are of another part of the picture."""

_ACTIVITY_RADIUS = 6
_BLEND_RADIUS = 2
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

    It grows with the local standard deviation of the luma, for texture hides noise (noise visibility function: Voloshynovskiy
    et al. 1999, "A stochastic approach to content adaptive digital image watermarking"). Where the luma is next to black or
    white only one half of a wave has room; that half is made stronger by the square root of two, which keeps the power.
    """
    mean = box_mean(luma, _ACTIVITY_RADIUS)
    variance = box_mean(luma * luma, _ACTIVITY_RADIUS) - mean * mean
    activity = box_mean(np.sqrt(np.maximum(variance, 0)), _BLEND_RADIUS)
    strength = np.minimum(FLAT_STRENGTH + TEXTURE_SHARE * activity, MAX_STRENGTH)
    no_room = (luma > 255 - strength) | (luma < strength)
    return np.asarray(np.where(no_room, strength * _ONE_SIDED, strength), dtype=np.float32)


def take_picture_off(luma: Plane) -> Plane:
    """Returns an estimate of the noise in a frame, divided by its local standard deviation.

    The noise is the mean difference to the neighbours that are alike: the residual of a sigma filter (Lee 1983, "Digital image
    smoothing and the sigma filter"), times the share of such neighbours. Edges, at which nothing is alike, leave nothing
    behind; they are what drowns a mark in the residual of a linear filter.
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
    noise /= 2 * len(taps)
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
