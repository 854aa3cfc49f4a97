"""Where the waves of a mark lie in the Fourier plane of a picture that was resized, turned or flipped, and what is there."""

import numpy as np
import numpy.typing as npt

from model_core.watermark.carriers import SMALL_SIDE, SMALL_TILE, TILE
from model_core.watermark.masking import Plane

SMALLEST_SCALE, LARGEST_SCALE = 0.24, 2.1
"""The sizes that are searched, against the one at which a tile has 96 pixels."""
MAX_ANGLE = np.radians(3.0)
_NEAR = 1.1
_EDGE_SHIFT = 3.0
"""How far the next placement moves the pixels at a picture's border, in pixels as marked."""
_MAX_STEP = 0.1
_HIGHEST_FREQUENCY = 0.45
_BEFORE_SEARCH = (1.0, SMALL_TILE / TILE, 0.75, 0.5, 0.25)

Placements = npt.NDArray[np.float64]
"""Scale, counter-clockwise angle in radians, and -1 where left and right are exchanged, else 1: float64 [placements 3]."""
Values = npt.NDArray[np.complex64]
"""What lies at each carrier's frequency, complex64 [placements carriers]."""


def likely_placements() -> Placements:
    """Returns those to try first: upright at the sizes that media are most often given."""
    return np.array([(scale, 0.0, 1.0) for scale in _BEFORE_SEARCH])


def all_placements(length: int) -> Placements:
    """Returns those to try when none of the likely ones is it.

    All scales upright; slightly turned and flipped ones near the size at which a picture of this size is marked.

    Args:
        length: The longer side of the picture, in pixels.
    """
    native = SMALL_TILE / TILE if length < SMALL_SIDE else 1.0
    found, scale = [], SMALLEST_SCALE
    while scale < LARGEST_SCALE:
        step = min(2 * _EDGE_SHIFT * scale / length, _MAX_STEP)
        found.append((scale, 0.0, 1.0))
        if native / _NEAR < scale < native * _NEAR:
            turns = np.arange(-int(MAX_ANGLE / step), int(MAX_ANGLE / step) + 1) * step
            found += [(scale, angle, side) for angle in turns for side in (1.0, -1.0)]
        scale *= 1 + step
    return np.array(found)


def near_placements(placement: npt.NDArray[np.float64], step: float) -> Placements:
    """Returns a placement and its eight neighbours in scale and angle, `step` apart."""
    scale, angle, side = placement
    return np.array([(scale * (1 + i * step), angle + j * step, side) for i in (0, -1, 1) for j in (0, -1, 1)])


def frequencies(placements: Placements, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Returns the carriers' frequencies in periods a pixel, down and across, float64 [placements carriers 2]."""
    scale, angle, side = placements[:, :, None].transpose(1, 0, 2)
    down, across = index[:, 0] / (TILE * scale), side * index[:, 1] / (TILE * scale)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * down - sin * across, cos * across + sin * down], axis=-1)


class Spectrum:
    """The Fourier transform of a picture [height width] about its middle, where a crop or a turn changes it least."""

    def __init__(self, plane: Plane) -> None:
        self.length = max(plane.shape)
        self._plane = plane
        self._middle = (plane.shape[0] // 2, plane.shape[1] // 2)
        # Twice the picture's size, so that between two values of the transform lies nothing that they do not tell.
        self._size = max(64, 1 << int(np.ceil(np.log2(2 * self.length))))
        padded = np.zeros((self._size, self._size), dtype=np.float32)
        padded[: plane.shape[0], : plane.shape[1]] = plane
        shifted = np.roll(padded, (-self._middle[0], -self._middle[1]), axis=(0, 1))
        self._values = np.fft.fft2(shifted).astype(np.complex64).ravel()

    def sample(self, frequency: npt.NDArray[np.float64]) -> Values:
        """Returns the transform at any frequencies [... 2], interpolated; 0 at those that the picture is too small for."""
        at = frequency * self._size
        low = np.floor(at).astype(np.int64)
        part = (at - low).astype(np.float32)
        found = np.zeros(low.shape[:-1], dtype=np.complex64)
        for down in (0, 1):
            row = (low[..., 0] + down) % self._size * self._size
            for across in (0, 1):
                weight = np.abs(1 - down - part[..., 0]) * np.abs(1 - across - part[..., 1])
                found += weight * self._values[row + (low[..., 1] + across) % self._size]
        return np.where(_representable(frequency), found, 0)

    def compute(self, frequency: npt.NDArray[np.float64]) -> Values:
        """Returns the transform at frequencies [carriers 2] as it is, by its definition."""
        height, width = self._plane.shape
        down = np.exp(-2j * np.pi * np.outer(frequency[:, 0], np.arange(height) - self._middle[0])).astype(np.complex64)
        across = np.exp(-2j * np.pi * np.outer(frequency[:, 1], np.arange(width) - self._middle[1])).astype(np.complex64)
        found = np.sum((down @ self._plane.astype(np.complex64)) * across, axis=1)
        return np.where(_representable(frequency), found, 0)


def _representable(frequency: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(frequency).max(axis=-1) < _HIGHEST_FREQUENCY)
