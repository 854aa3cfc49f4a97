"""What the media of a dataset really are, beside what its manifest says of them: one row of facts an item."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_core.data.dataset import Dataset
from model_core.data.media import decode_filmstrip, overview
from model_core.data.near_duplicates import fingerprint, nearest_within
from model_core.data.split import HOLDOUT, TRAIN
from model_core.errors import BadDataError

_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class MediaFacts:
    """Facts about one item; None where there is nothing to say.

    Attributes:
        row: Its row in the manifest.
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

    row: int
    shard: str
    path: str
    problem: str | None = None
    digest_matches: bool | None = None
    size_matches: bool | None = None
    duplicate_of: str | None = None
    nearest: str | None = None
    nearest_distance: float | None = None
    leaks: str | None = None
    leak_nearest: str | None = None
    leak_distance: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One item after reading: its facts so far, and what comparing needs."""

    problem: str | None = None
    digest_matches: bool | None = None
    size_matches: bool | None = None
    pixels_sha256: str = ""
    fingerprint: npt.NDArray[np.uint8] | None = None


def examine(dataset: Dataset, *, radius: float, compare_at_most: int, progress: Callable[[int, int], None]) -> list[MediaFacts]:
    """Reads every item of a dataset, and compares all pictures with each other.

    Only a fingerprint of each picture stays in memory.

    Args:
        dataset: The dataset.
        radius: How far similar pictures may be from each other, in levels from 0 to 255.
        compare_at_most: With more items than this, pictures are compared for equality only.
        progress: Called with the number of items read, and of all items.
    """
    seen = _read_all(dataset, progress)
    equal = _equal_pixels(dataset, seen)
    similar = _similar(dataset, seen, radius) if len(dataset) <= compare_at_most else {}
    columns = dataset.columns
    return [
        MediaFacts(
            row=row,
            shard=columns["shard"][row],
            path=columns["path"][row],
            problem=item.problem,
            digest_matches=item.digest_matches,
            size_matches=item.size_matches,
            **equal.get(row, {}),  # type: ignore[arg-type]
            **similar.get(row, {}),  # type: ignore[arg-type]
        )
        for row, item in enumerate(seen)
    ]


def _read_all(dataset: Dataset, progress: Callable[[int, int], None]) -> list[_Seen]:
    """Reads all items in several threads: Pillow and hashlib work outside the interpreter's lock."""
    total = len(dataset)
    batches = [range(start, min(start + _BATCH, total)) for start in range(0, total, _BATCH)]
    seen: list[_Seen] = []

    def read(batch: range) -> list[_Seen]:
        return [_read(dataset, row) for row in batch]

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for found in pool.map(read, batches):
            seen += found
            progress(len(seen), total)
    return seen


def _read(dataset: Dataset, row: int) -> _Seen:
    sha256, width, height, num_frames = (dataset.columns[name][row] for name in ("sha256", "width", "height", "frames"))
    try:
        data = dataset.read_bytes(row)
    except BadDataError as error:
        return _Seen(problem=error.diagnosis)
    matches = hashlib.sha256(data).hexdigest() == sha256
    try:
        frames = decode_filmstrip(data, num_frames, name=dataset.describe(row))
    except BadDataError as error:
        return _Seen(problem=error.diagnosis, digest_matches=matches)
    strip = frames.reshape(-1, *frames.shape[2:])
    content = hashlib.sha256(f"{strip.shape[1]}x{strip.shape[0]}:".encode() + strip.tobytes()).hexdigest()
    return _Seen(
        digest_matches=matches,
        size_matches=frames.shape[1:3] == (height, width),
        pixels_sha256=content,
        fingerprint=fingerprint(overview(frames)),
    )


def _equal_pixels(dataset: Dataset, seen: Sequence[_Seen]) -> dict[int, dict[str, str]]:
    """Finds items whose pixels equal an earlier item's of the same split, or of the training split."""
    splits, paths = dataset.columns["split"], dataset.columns["path"]
    first: dict[tuple[str, str], int] = {}
    for row, item in enumerate(seen):
        if item.pixels_sha256:
            first.setdefault((splits[row], item.pixels_sha256), row)
    facts: dict[int, dict[str, str]] = {}
    for row, item in enumerate(seen):
        own, training = first.get((splits[row], item.pixels_sha256)), first.get((TRAIN, item.pixels_sha256))
        if own is not None and own != row:
            facts.setdefault(row, {})["duplicate_of"] = paths[own]
        if splits[row] == HOLDOUT and training is not None:
            facts.setdefault(row, {})["leaks"] = paths[training]
    return facts


def _similar(dataset: Dataset, seen: Sequence[_Seen], radius: float) -> dict[int, dict[str, str | float]]:
    """Finds the most similar item of the same split, and for held-out items that of the training split.

    Of items with equal pixels only the first is compared: the others are reported as equal.
    """
    facts: dict[int, dict[str, str | float]] = {}
    rows = {split: _distinct(dataset, seen, split) for split in (TRAIN, HOLDOUT)}
    prints = {split: _stack(seen, chosen) for split, chosen in rows.items()}
    paths = dataset.columns["path"]
    for split, chosen in rows.items():
        for place, near in nearest_within(prints[split], prints[split], radius, same=True).items():
            found = {"nearest": paths[chosen[near.place]], "nearest_distance": round(near.distance, 3)}
            facts.setdefault(chosen[place], {}).update(found)
    for place, near in nearest_within(prints[HOLDOUT], prints[TRAIN], radius).items():
        found = {"leak_nearest": paths[rows[TRAIN][near.place]], "leak_distance": round(near.distance, 3)}
        facts.setdefault(rows[HOLDOUT][place], {}).update(found)
    return facts


def _distinct(dataset: Dataset, seen: Sequence[_Seen], split: str) -> list[int]:
    splits = dataset.columns["split"]
    first = {
        item.pixels_sha256: row for row, item in reversed(list(enumerate(seen))) if item.pixels_sha256 and splits[row] == split
    }
    return sorted(first.values())


def _stack(seen: Sequence[_Seen], rows: Sequence[int]) -> npt.NDArray[np.uint8]:
    found = [seen[row].fingerprint for row in rows]
    return np.stack([item for item in found if item is not None]) if found else np.zeros((0, 768), dtype=np.uint8)
