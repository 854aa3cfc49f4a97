"""Finding pictures that look alike, without missing any.

A picture's fingerprint is its 16x16 RGB thumbnail; the distance of two pictures is the root mean square difference of
their fingerprints, in levels from 0 to 255. Averages over 4x4 blocks of a fingerprint, 48 numbers, give a distance that is
never larger (Jensen's inequality), so that it decides cheaply which pairs need a closer look.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from model_core.data.media import Pixels

FINGERPRINT_SIDE = 16
_COARSE_SIDE = 4
_BLOCK = 2048
_ROUNDING_SLACK = 0.05

Fingerprints = npt.NDArray[np.uint8]
"""uint8 [items 768]."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """The nearest other picture: its place and its distance, in levels from 0 to 255."""

    place: int
    distance: float


def fingerprint(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Returns the fingerprint of a picture, uint8 [768]."""
    side = (FINGERPRINT_SIDE, FINGERPRINT_SIDE)
    return np.asarray(Image.fromarray(pixels).resize(side, Image.Resampling.BOX), dtype=np.uint8).reshape(-1)


def nearest_within(queries: Fingerprints, candidates: Fingerprints, radius: float, *, same: bool = False) -> dict[int, Neighbour]:
    """Finds, for each query, the nearest candidate that is not farther than `radius`.

    Args:
        queries: Fingerprints.
        candidates: Fingerprints.
        radius: In levels.
        same: Queries and candidates are the same list, and none is its own neighbour.

    Returns:
        The neighbours of the queries that have one, by the query's place. Of equally near candidates it is the first.
    """
    coarse_queries, coarse_candidates = _coarse(queries), _coarse(candidates)
    norms = (coarse_candidates**2).sum(axis=1)
    found: dict[int, Neighbour] = {}
    limit = (radius + _ROUNDING_SLACK) ** 2 * coarse_queries.shape[1]
    for query_start in range(0, len(queries), _BLOCK):
        block = coarse_queries[query_start : query_start + _BLOCK]
        block_norms = (block**2).sum(axis=1)
        for start in range(0, len(candidates), _BLOCK):
            other = coarse_candidates[start : start + _BLOCK]
            distances = block_norms[:, None] + norms[None, start : start + _BLOCK] - 2 * block @ other.T
            for in_block, in_other in np.argwhere(distances <= limit).tolist():
                query, place = query_start + in_block, start + in_other
                if not (same and query == place):
                    _keep_nearer(found, query, place, _distance(queries[query], candidates[place]), radius)
    return found


def _keep_nearer(found: dict[int, Neighbour], query: int, place: int, distance: float, radius: float) -> None:
    if distance <= radius and (query not in found or distance < found[query].distance):
        found[query] = Neighbour(place=place, distance=distance)


def _coarse(fingerprints: Fingerprints) -> npt.NDArray[np.float64]:
    """Returns the averages over 4x4 blocks, centred, [items 48]."""
    factor = FINGERPRINT_SIDE // _COARSE_SIDE
    blocks = fingerprints.reshape(len(fingerprints), _COARSE_SIDE, factor, _COARSE_SIDE, factor, 3).mean(
        axis=(2, 4), dtype=np.float64
    )
    return np.asarray(blocks.reshape(len(fingerprints), _COARSE_SIDE * _COARSE_SIDE * 3) - 127.5)


def _distance(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> float:
    difference = left.astype(np.int64) - right.astype(np.int64)
    return float(np.sqrt((difference**2).sum() / len(left)))
