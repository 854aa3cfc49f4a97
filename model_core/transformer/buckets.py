"""Which samples of several sizes and durations share a batch; importing this imports no tensors.

A shape is a sample's latents' frames, height and width.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

from model_core.errors import BadDataError
from model_core.transformer.config import Grid, TransformerConfig

Shape = tuple[int, int, int]


def by_grid(config: TransformerConfig, shapes: Sequence[Shape]) -> dict[Grid, list[int]]:
    """Returns the places of samples by their grid of tokens, grids of few tokens first.

    Raises:
        BadModelError: A shape that the patch does not divide.
    """
    found: dict[Grid, list[int]] = defaultdict(list)
    for place, shape in enumerate(shapes):
        found[config.grid((config.in_channels, *shape))].append(place)
    return {grid: found[grid] for grid in sorted(found, key=lambda grid: (math.prod(grid), grid))}


def token_batches(config: TransformerConfig, shapes: Sequence[Shape], *, max_tokens: int) -> list[list[int]]:
    """Returns batches of one grid each, all of about as many tokens and so about as much work and memory.

    Args:
        config: The architecture, for its patch.
        shapes: Of each sample.
        max_tokens: Most tokens of a batch.

    Returns:
        Places of each batch's samples; every sample is in one batch, in the order given within its grid.

    Raises:
        BadModelError: A shape that the patch does not divide.
        BadDataError: A sample has more tokens than a batch may have.
    """
    batches = []
    for grid, places in by_grid(config, shapes).items():
        count = max_tokens // math.prod(grid)
        if count < 1:
            raise BadDataError(
                f"a sample of {math.prod(grid)} tokens does not fit into a batch of {max_tokens}", hint="raise max_tokens"
            )
        batches += [places[start : start + count] for start in range(0, len(places), count)]
    return batches


def aspect_buckets(*, max_tokens: int, max_ratio: float = 2.0) -> list[tuple[int, int]]:
    """Returns grids (height, width) of so many tokens or hardly fewer, from wide to tall (Podell 2023, arXiv 2307.01952).

    Args:
        max_tokens: Most tokens of a picture.
        max_ratio: Longest side over shortest.

    Raises:
        BadDataError: No token fits, or a ratio under 1.
    """
    if max_tokens < 1 or max_ratio < 1:
        raise BadDataError(f"no grid has {max_tokens} tokens and sides of a ratio up to {max_ratio}")
    found: list[tuple[int, int]] = []
    for height in range(max_tokens, 0, -1):
        width = min(max_tokens // height, int(height * max_ratio))
        if height <= max_ratio * width and (not found or width > found[-1][1]):  # else a higher grid is as wide
            found.append((height, width))
    return found[::-1]


def nearest_bucket(height: int, width: int, buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Returns the bucket whose ratio of sides is nearest to a picture's, so that least is cut off.

    Raises:
        BadDataError: No bucket, or a side of no length.
    """
    if not buckets or min(height, width) < 1:
        raise BadDataError(f"a picture of {height}x{width} has no nearest of {len(buckets)} buckets")
    return min(buckets, key=lambda bucket: abs(math.log(bucket[0] / bucket[1]) - math.log(height / width)))
