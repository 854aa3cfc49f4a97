"""What was measured on real pictures, kept between evaluations: a new model need not measure the same real set again.

An entry is one safetensors file whose JSON header names the key (all that the numbers depend on) and the digest of the
numbers. It is written whole or not at all. When read, key, digest, types and finiteness are checked, and a caller may have a
part measured again and compared bit for bit (`cached_features`): whatever is damaged, foreign, or made by another version
of the libraries is measured anew, never trusted. Nothing here can run code: safetensors hold only numbers.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model_core.errors import BadDataError
from model_core.evaluation.moments import Moments

FORMAT = "groundswell-reference/1"
MAX_ENTRIES = 32
_HEADER = "groundswell"
# All that parsing a file of any bytes was seen to raise: types unknown to numpy, and JSON nested without end, among them.
_UNREADABLE = (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class ReferenceKey:
    """All that numbers measured on real pictures depend on.

    Attributes:
        dataset: Digest of the dataset.
        extractor: Digest of the feature extractor: weights, input size, preprocessing.
        input_size: Side in pixels to which pictures are resized, again in plain sight.
        split: `train` or `holdout`.
        rows: Digest of the rows of the dataset that were measured (`rows_digest`).
        count: How many rows.
        contents: What is kept: `features`, or `moments`.
    """

    dataset: str
    extractor: str
    input_size: int
    split: str
    rows: str
    count: int
    contents: str = "features"

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(f"{FORMAT} {json.dumps(asdict(self), sort_keys=True)}".encode()).hexdigest()


def rows_digest(rows: Sequence[int]) -> str:
    """Returns the SHA-256 over row numbers, in order."""
    return hashlib.sha256(np.asarray(rows, dtype="<i8").tobytes()).hexdigest()


class ReferenceCache:
    """A folder of entries; the newest `MAX_ENTRIES` stay.

    Args:
        folder: A folder that survives; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: ReferenceKey) -> Path:
        """Returns where the entry of a key is kept."""
        return self._folder / f"{key.contents}-{key.digest[:32]}.safetensors"

    def load(self, key: ReferenceKey) -> dict[str, np.ndarray] | None:
        """Returns the arrays kept under a key, or None where there are none that can be trusted."""
        try:
            with safe_open(self.path(key), framework="numpy") as file:
                header = json.loads((file.metadata() or {})[_HEADER])
                arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            sound = header == _header(key, arrays) and all(np.isfinite(array).all() for array in arrays.values())
        except _UNREADABLE:
            return None
        return arrays if sound else None

    def store(self, key: ReferenceKey, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps arrays under a key, in the place of what was there; a disk that refuses costs only the next measurement.

        Raises:
            BadDataError: A number is not finite.
        """
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise BadDataError("what was measured on real pictures is not finite, and is not kept")
        contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
        path = self.path(key)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(contiguous, partial, metadata={_HEADER: json.dumps(_header(key, contiguous), sort_keys=True)})
            partial.replace(path)
            self._drop_oldest()
        except (OSError, SafetensorError):
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _drop_oldest(self) -> None:
        # Partial files of killed processes grow old with the others.
        entries = sorted(self._folder.glob("*.safetensors*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in entries[MAX_ENTRIES:]:
            old.unlink(missing_ok=True)


def cached_features(
    cache: ReferenceCache,
    key: ReferenceKey,
    *,
    measure: Callable[[slice], Float[np.ndarray, "n dim"]],
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> Float[np.ndarray, "count dim"]:
    """Returns features of real pictures: kept ones, after one batch of them was measured again, or measured anew and kept.

    The batch that is measured again is chosen by the key. It must come out bit for bit, as it does on one machine with one
    version of the libraries; so a report never depends on whether there was a cache.

    Args:
        cache: Where features are kept.
        key: What they depend on.
        measure: Measures a slice of the pictures.
        batch_size: Pictures measured at a time.
        on_batch: Called with the number of pictures done so far.

    Raises:
        BadDataError: A feature is not finite, or not one vector a picture came back.
    """
    batches = [slice(start, min(start + batch_size, key.count)) for start in range(0, key.count, batch_size)]
    if not batches:
        raise BadDataError(f"there are no {key.split} pictures to measure")
    kept = (cache.load(key) or {}).get("features")
    if kept is not None and kept.dtype == np.float32 and kept.ndim == 2 and len(kept) == key.count:
        chosen = batches[int(key.digest[:8], 16) % len(batches)]
        if np.array_equal(measure(chosen), kept[chosen]):
            if on_batch:
                on_batch(key.count)
            return kept
    measured = []
    for chosen in batches:
        measured.append(measure(chosen))
        if on_batch:
            on_batch(chosen.stop)
    features = np.concatenate(measured)
    if len(features) != key.count:
        raise BadDataError(f"{len(features)} feature vectors were measured on {key.count} {key.split} pictures")
    cache.store(key, {"features": features})
    return features


def cached_moments(cache: ReferenceCache, key: ReferenceKey, measure: Callable[[], Moments]) -> Moments:
    """Returns moments of features of real pictures, kept or measured anew: for sets too large to keep their features.

    Args:
        cache: Where moments are kept.
        key: What they depend on; its `contents` should be `moments`.
        measure: Measures them.

    Raises:
        BadDataError: A moment is not finite, or not of as many pictures as the key says.
    """
    kept = cache.load(key) or {}
    mean, scatter = kept.get("mean"), kept.get("scatter")
    sound = mean is not None and scatter is not None and mean.dtype == scatter.dtype == np.float64 and mean.ndim == 1
    if mean is not None and scatter is not None and sound and scatter.shape == (len(mean), len(mean)):
        return Moments(count=key.count, mean=mean, scatter=scatter)
    moments = measure()
    if moments.count != key.count:
        raise BadDataError(f"the moments are of {moments.count} pictures, not of {key.count}")
    cache.store(key, {"mean": moments.mean, "scatter": moments.scatter})
    return moments


def _header(key: ReferenceKey, arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return {"format": FORMAT, "key": asdict(key), "sha256": digest.hexdigest()}
