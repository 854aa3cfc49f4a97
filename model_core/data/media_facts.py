"""What the media of a dataset really are, beside what its manifest says of them: one row of facts an item.

Shape legend: n items. Facts are columns from the start, so that they cost bytes an item and not objects.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model_core.data.dataset import Dataset
from model_core.data.facts_table import UNKNOWN, Flags, Rows, facts_table
from model_core.data.media import decode_filmstrip, overview
from model_core.data.near_duplicates import FINGERPRINT_SIDE, Fingerprints, Neighbour, fingerprint, nearest_within
from model_core.data.split import HOLDOUT, TRAIN
from model_core.errors import BadDataError

_BATCH = 128
_BATCHES_IN_FLIGHT = 64
_DIGEST_BYTES = 32
_FINGERPRINT_BYTES = FINGERPRINT_SIDE * FINGERPRINT_SIDE * 3


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One item after reading: its facts so far, and what comparing needs."""

    problem: str | None = None
    digest_matches: bool | None = None
    size_matches: bool | None = None
    pixels_sha256: bytes | None = None
    fingerprint: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """All items after reading.

    Attributes:
        digest_matches: As in `facts_table.SCHEMA`.
        size_matches: As in `facts_table.SCHEMA`.
        pixels: Digests of the pixels, uint8 [n 32].
        decoded: Whether there are pixels, bool [n].
        fingerprints: uint8 [n 768]; of no items where pictures are not compared.
        problems: By row.
    """

    digest_matches: Flags
    size_matches: Flags
    pixels: npt.NDArray[np.uint8]
    decoded: npt.NDArray[np.bool_]
    fingerprints: Fingerprints
    problems: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, num_items: int, *, compared: bool) -> "_Seen":
        """Returns room for items that are still to be read."""
        return cls(
            digest_matches=np.full(num_items, UNKNOWN, dtype=np.int8),
            size_matches=np.full(num_items, UNKNOWN, dtype=np.int8),
            pixels=np.zeros((num_items, _DIGEST_BYTES), dtype=np.uint8),
            decoded=np.zeros(num_items, dtype=bool),
            fingerprints=np.zeros((num_items if compared else 0, _FINGERPRINT_BYTES), dtype=np.uint8),
        )

    def put(self, row: int, item: _Item) -> None:
        """Takes one item in."""
        if item.problem is not None:
            self.problems[row] = item.problem
        if item.digest_matches is not None:
            self.digest_matches[row] = item.digest_matches
        if item.size_matches is not None:
            self.size_matches[row] = item.size_matches
        if item.pixels_sha256 is not None:
            self.decoded[row] = True
            self.pixels[row] = np.frombuffer(item.pixels_sha256, dtype=np.uint8)
        if item.fingerprint is not None and len(self.fingerprints):
            self.fingerprints[row] = item.fingerprint


def examine(dataset: Dataset, *, radius: float, compare_at_most: int, progress: Callable[[int, int], None]) -> pa.Table:
    """Reads every item of a dataset, and compares all pictures with each other.

    Of each picture a digest stays in memory, and where pictures are compared a fingerprint.

    Args:
        dataset: The dataset.
        radius: How far similar pictures may be from each other, in levels from 0 to 255.
        compare_at_most: With more items than this, pictures are compared for equality only.
        progress: Called with the number of items read, and of all items.

    Returns:
        A table of `facts_table.SCHEMA`, one row an item.
    """
    compared = len(dataset) <= compare_at_most
    seen = _read_all(dataset, progress, compared=compared)
    firsts = _first_rows(dataset, seen)
    nearest = _similar(seen, firsts, radius) if compared else {}
    return facts_table(
        dataset,
        problems=seen.problems,
        digest_matches=seen.digest_matches,
        size_matches=seen.size_matches,
        nearest=nearest,
        **_equal_pixels(dataset, seen, firsts),
    )


def _read_all(dataset: Dataset, progress: Callable[[int, int], None], *, compared: bool) -> _Seen:
    """Reads all items in several threads: Pillow and hashlib work outside the interpreter's lock."""
    total = len(dataset)
    seen = _Seen.of(total, compared=compared)

    def read(batch: range) -> list[_Item]:
        return [_read(dataset, row, compared=compared) for row in batch]

    stride = _BATCH * _BATCHES_IN_FLIGHT
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for first in range(0, total, stride):  # a pool that is given all batches at once keeps what it has read of all
            last = min(first + stride, total)
            batches = [range(start, min(start + _BATCH, last)) for start in range(first, last, _BATCH)]
            for batch, found in zip(batches, pool.map(read, batches), strict=True):
                for row, item in zip(batch, found, strict=True):
                    seen.put(row, item)
                progress(batch.stop, total)
    return seen


def _read(dataset: Dataset, row: int, *, compared: bool) -> _Item:
    sha256, width, height, num_frames = (dataset.value(name, row) for name in ("sha256", "width", "height", "frames"))
    try:
        data = dataset.read_bytes(row)
    except BadDataError as error:
        return _Item(problem=error.diagnosis)
    matches = hashlib.sha256(data).hexdigest() == sha256
    try:
        frames = decode_filmstrip(data, num_frames, name=dataset.describe(row))
    except BadDataError as error:
        return _Item(problem=error.diagnosis, digest_matches=matches)
    strip = frames.reshape(-1, *frames.shape[2:])
    content = hashlib.sha256(f"{strip.shape[1]}x{strip.shape[0]}:".encode() + strip.tobytes()).digest()
    return _Item(
        digest_matches=matches,
        size_matches=frames.shape[1:3] == (height, width),
        pixels_sha256=content,
        fingerprint=fingerprint(overview(frames)) if compared else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Firsts:
    """Which items have equal pixels.

    Attributes:
        codes: A number for each item's pixels, int64 [n].
        by_split: For each split and number the first item of the split with these pixels, -1 for none.
    """

    codes: npt.NDArray[np.int64]
    by_split: dict[str, Rows]

    def distinct(self, split: str) -> Rows:
        """Returns the rows of a split of which no earlier one has equal pixels, ascending."""
        found = self.by_split.get(split, np.zeros(0, dtype=np.int64))
        return np.sort(found[found >= 0])


def _first_rows(dataset: Dataset, seen: _Seen) -> _Firsts:
    digests = pa.Array.from_buffers(pa.binary(_DIGEST_BYTES), len(seen.pixels), [None, pa.py_buffer(seen.pixels)])
    encoded = digests.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    splits = dataset.table["split"].combine_chunks().dictionary_encode()
    by_split = {}
    for number, split in enumerate(splits.dictionary.to_pylist()):
        backwards = np.flatnonzero((splits.indices.to_numpy() == number) & seen.decoded)[::-1]
        first = np.full(len(encoded.dictionary), UNKNOWN, dtype=np.int64)
        first[codes[backwards]] = backwards  # of rows with equal pixels the last one written stays: the first of the split
        by_split[split] = first
    return _Firsts(codes=codes, by_split=by_split)


def _equal_pixels(dataset: Dataset, seen: _Seen, firsts: _Firsts) -> dict[str, Rows]:
    """Finds items whose pixels equal an earlier item's of the same split, or of the training split."""
    splits = np.asarray(dataset.table["split"].to_numpy())
    rows = np.arange(len(splits))
    duplicate_of, leaks = (np.full(len(splits), UNKNOWN, dtype=np.int64) for _ in range(2))
    for split, first in firsts.by_split.items():
        own = np.flatnonzero((splits == split) & seen.decoded)
        duplicate_of[own] = first[firsts.codes[own]]
        if split == HOLDOUT and TRAIN in firsts.by_split:
            leaks[own] = firsts.by_split[TRAIN][firsts.codes[own]]
    duplicate_of[duplicate_of == rows] = UNKNOWN
    return {"duplicate_of": duplicate_of, "leaks": leaks}


def _similar(seen: _Seen, firsts: _Firsts, radius: float) -> dict[str, dict[int, tuple[int, float]]]:
    """Finds the most similar item of the same split, and for held-out items that of the training split.

    Of items with equal pixels only the first is compared: the others are reported as equal.
    """
    rows = {split: firsts.distinct(split) for split in (TRAIN, HOLDOUT)}
    prints = {split: seen.fingerprints[chosen] for split, chosen in rows.items()}
    nearest: dict[int, tuple[int, float]] = {}
    for split, chosen in rows.items():
        nearest |= _by_row(chosen, chosen, nearest_within(prints[split], prints[split], radius, same=True))
    leaking = _by_row(rows[HOLDOUT], rows[TRAIN], nearest_within(prints[HOLDOUT], prints[TRAIN], radius))
    return {"nearest": nearest, "leak_nearest": leaking}


def _by_row(queries: Rows, candidates: Rows, found: dict[int, Neighbour]) -> dict[int, tuple[int, float]]:
    return {int(queries[place]): (int(candidates[near.place]), near.distance) for place, near in found.items()}
