"""Nearest neighbours among many vectors in bounded memory: distances are taken block by block and never kept.

Shapes: n queries, m references.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

QUERY_BLOCK, REFERENCE_BLOCK = 1024, 2048


def squared_distances(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> Float[np.ndarray, "n m"]:
    """Returns the squared Euclidean distance of each pair, ``|x|^2 + |y|^2 - 2 x . y``, never negative."""
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2 * x @ y.T
    return np.asarray(np.clip(squared, 0, None))


def blocks(size: int, block: int) -> Iterator[slice]:
    """Returns slices of at most `block` items that cover `size` items."""
    for start in range(0, size, block):
        yield slice(start, min(start + block, size))


def nearest(
    queries: np.ndarray,
    references: np.ndarray,
    *,
    vectors: Callable[[np.ndarray], Float[np.ndarray, "items dim"]],
    exclude_self: bool = False,
    query_block: int = QUERY_BLOCK,
    reference_block: int = REFERENCE_BLOCK,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns the index and Euclidean distance of each query's nearest reference; of equals, the first.

    Args:
        queries: What to look from, [n ...].
        references: What to look among, [m ...].
        vectors: Turns a block of either into double precision vectors; called block by block, so that pictures may stay bytes.
        exclude_self: Whether the queries are the references, and none is its own neighbour.
        query_block: Queries at a time.
        reference_block: References at a time.
    """
    index, distance = np.zeros(len(queries), np.int64), np.full(len(queries), np.inf)
    for rows in blocks(len(queries), query_block):
        looking = vectors(queries[rows])
        for columns in blocks(len(references), reference_block):
            found = squared_distances(looking, vectors(references[columns]))
            if exclude_self:
                own = np.arange(rows.start, rows.stop)
                inside = (own >= columns.start) & (own < columns.stop)
                found[np.flatnonzero(inside), own[inside] - columns.start] = np.inf
            best = found.argmin(axis=1)
            value = found[np.arange(len(found)), best]
            closer = value < distance[rows]
            index[rows] = np.where(closer, best + columns.start, index[rows])
            distance[rows] = np.where(closer, value, distance[rows])
    return index, np.sqrt(distance)
