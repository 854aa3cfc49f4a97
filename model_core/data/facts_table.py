"""The table of what was found in a dataset's media: one row an item, null where there is nothing to say.

Shape legend: n items.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model_core.data.dataset import Dataset

UNKNOWN = -1

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("shard", pa.string()),
        ("path", pa.string()),
        ("problem", pa.string()),
        ("digest_matches", pa.bool_()),
        ("size_matches", pa.bool_()),
        ("duplicate_of", pa.string()),
        ("nearest", pa.string()),
        ("nearest_distance", pa.float64()),
        ("leaks", pa.string()),
        ("leak_nearest", pa.string()),
        ("leak_distance", pa.float64()),
    ]
)
"""Its columns.

row: The item's row in the manifest.
shard: Its shard.
path: Its name in the shard.
problem: Why it cannot be read or decoded.
digest_matches: Whether its bytes have the manifest's SHA-256.
size_matches: Whether its picture has the manifest's width and height.
duplicate_of: The first item of the same split with equal pixels, where that is another one.
nearest: The most similar item of the same split within the radius, other than those with equal pixels.
nearest_distance: How far that is.
leaks: For a held-out item: a training item with equal pixels.
leak_nearest: For a held-out item: the most similar training item within the radius.
leak_distance: How far that is.
"""

Flags = npt.NDArray[np.int8]
"""int8 [n]: 1 for yes, 0 for no, -1 where it is not known."""
Rows = npt.NDArray[np.int64]
"""int64 [n]: another item's row, -1 for none."""


def facts_table(
    dataset: Dataset,
    *,
    problems: Mapping[int, str],
    digest_matches: Flags,
    size_matches: Flags,
    duplicate_of: Rows,
    leaks: Rows,
    nearest: Mapping[str, Mapping[int, tuple[int, float]]],
) -> pa.Table:
    """Returns facts as a table of `SCHEMA`.

    Args:
        dataset: What they are about.
        problems: By row.
        digest_matches: 1, 0, or -1 where it is not known.
        size_matches: The same.
        duplicate_of: Row of the other item, -1 for none.
        leaks: The same.
        nearest: For "nearest" and "leak_nearest", by row: the other item's row and how far it is.
    """
    num_items, paths = len(dataset), dataset.table["path"].combine_chunks()
    rows_with_problems = np.fromiter(problems, dtype=np.int64, count=len(problems))
    of_problem = np.full(num_items, UNKNOWN, dtype=np.int64)
    of_problem[rows_with_problems] = np.arange(len(problems))
    columns = {
        "row": pa.array(np.arange(num_items)),
        "shard": dataset.table["shard"],
        "path": paths,
        "problem": _taken(pa.array(list(problems.values()), type=pa.string()), of_problem),
        "digest_matches": pa.array(digest_matches == 1, mask=digest_matches == UNKNOWN),
        "size_matches": pa.array(size_matches == 1, mask=size_matches == UNKNOWN),
        "duplicate_of": _taken(paths, duplicate_of),
        "leaks": _taken(paths, leaks),
    }
    for name, distance in (("nearest", "nearest_distance"), ("leak_nearest", "leak_distance")):
        others, distances = np.full(num_items, UNKNOWN, dtype=np.int64), np.zeros(num_items)
        for row, (other, far) in nearest.get(name, {}).items():
            others[row], distances[row] = other, round(far, 3)
        columns[name] = _taken(paths, others)
        columns[distance] = pa.array(distances, mask=others == UNKNOWN)
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _taken(texts: pa.Array, rows: Rows) -> pa.Array:
    """Returns the texts of rows, null where there is none."""
    return texts.take(pa.array(rows, mask=rows == UNKNOWN))
