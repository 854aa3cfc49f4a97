"""Fashion-MNIST, or anything else in its files: pictures and labels in the IDX format, gzipped or not.

The format: two zero bytes, the type of a value (0x08: unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit number, then the values.
"""

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from model_core.data.importers.plan import ImportPlan, Item, choose
from model_core.data.media import Pixels, encode_png
from model_core.data.split import HOLDOUT, TRAIN
from model_core.errors import BadDataError

LABELS = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
LICENCE = "MIT"

_SPLITS = {"train": TRAIN, "t10k": HOLDOUT}
_UNSIGNED_BYTE = 0x08
_MAX_VALUES = 1 << 31


def read_idx(path: Path, *, num_dimensions: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Reads an IDX file of unsigned bytes.

    Args:
        path: The file; gzipped if its name ends in ``.gz``.
        num_dimensions: How many dimensions it must have.

    Raises:
        BadDataError: It is no such file, or has fewer or more values than it says.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return _read_values(file, path, num_dimensions)
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        raise BadDataError(f"{path} cannot be read: {error}", hint="the file is damaged or cut short; replace it") from error


def _read_values(
    file: "IO[bytes] | gzip.GzipFile", path: Path, num_dimensions: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    head = file.read(4 + 4 * num_dimensions)
    magic = struct.pack(">HBB", 0, _UNSIGNED_BYTE, num_dimensions)
    if head[:4] != magic:
        raise BadDataError(
            f"{path} begins with {head[:4].hex() or 'nothing'}, not {magic.hex()}",
            hint="it is not the IDX file it is named after",
        )
    if len(head) < 4 + 4 * num_dimensions:
        raise BadDataError(f"{path} ends inside its header", hint="the file is cut short; replace it")
    shape = struct.unpack(f">{num_dimensions}I", head[4:])
    num_values = 1
    for length in shape:
        num_values *= length
    if not 0 < num_values < _MAX_VALUES:
        raise BadDataError(
            f"{path} says that its shape is {'x'.join(map(str, shape))}", hint="it is empty, damaged, or too large"
        )
    values = file.read(num_values + 1)
    if len(values) != num_values:
        found = f"{len(values):,}" if len(values) < num_values else "more"
        raise BadDataError(
            f"{path} says it holds {num_values:,} values but holds {found}", hint="the file is damaged; replace it"
        )
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


@lru_cache(maxsize=2)
def _pictures(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Reads a file of pictures once for each process."""
    return read_idx(path, num_dimensions=3)


@dataclass(frozen=True, kw_only=True)
class IdxRenderer:
    """Makes a picture from one of an IDX file.

    Attributes:
        folder: Where the IDX files are.
        size: The width and height of the picture.
    """

    folder: str
    size: int

    def __call__(self, item: Item) -> bytes:
        """Returns the item's picture as the bytes of a PNG file."""
        name, _, place = item.locator.partition(":")
        return encode_png(grey_square(_pictures(Path(self.folder) / name)[int(place)], self.size))


def grey_square(values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], size: int) -> Pixels:
    """Returns a grey picture as `size` x `size` RGB: framed in black where it is up to 8 pixels smaller, resampled otherwise."""
    height, width = values.shape
    if height == width and 0 <= size - height <= 8:
        before = (size - height) // 2
        framed = np.pad(values, (before, size - height - before))
    else:
        framed = np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.LANCZOS), dtype=np.uint8)
    return np.repeat(framed[:, :, None], 3, axis=2)


def is_idx_folder(folder: Path) -> bool:
    """Tells whether a folder holds the training pictures under their usual name."""
    return _find(folder, "train-images-idx3-ubyte") is not None


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def plan_fashion_mnist(
    folder: Path, *, size: int = 32, categories: Sequence[str] | None = None, limit: int | None = None
) -> ImportPlan:
    """Plans an import of Fashion-MNIST: its training files become the training split, its test files the holdout.

    Args:
        folder: The folder with the four IDX files, gzipped or not.
        size: The width and height of each picture, in pixels.
        categories: Which of `LABELS` to take; all when None.
        limit: How many items to take at most.

    Raises:
        BadDataError: A file is missing or damaged, or a category does not exist.
    """
    wanted = sorted(set(LABELS if categories is None else categories))
    for category in wanted:
        if category not in LABELS:
            raise BadDataError(f"Fashion-MNIST has no label {category!r}", hint=f"labels: {', '.join(LABELS)}")
    items = [item for prefix in _SPLITS for item in _items(folder, prefix, wanted)]
    return ImportPlan(
        name="fashion-mnist",
        importer="idx",
        options={"categories": wanted, "limit": limit, "size": size},
        attribution="Fashion-MNIST, Han Xiao, Kashif Rasul, Roland Vollgraf, Zalando SE 2017 (MIT licence).",
        image_size=size,
        items=choose(items, limit),
        render=IdxRenderer(folder=str(folder), size=size),
        source_state=" ".join(
            f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in sorted(folder.glob("*ubyte*"))
        ),
    )


def _items(folder: Path, prefix: str, categories: Sequence[str]) -> list[Item]:
    """Returns the items of one of the two pairs of files."""
    pictures_path, labels_path = _find(folder, f"{prefix}-images-idx3-ubyte"), _find(folder, f"{prefix}-labels-idx1-ubyte")
    if pictures_path is None or labels_path is None:
        missing = f"{prefix}-images-idx3-ubyte" if pictures_path is None else f"{prefix}-labels-idx1-ubyte"
        raise BadDataError(f"{folder} lacks {missing} or {missing}.gz", hint="Fashion-MNIST is four files, in one folder")
    labels = read_idx(labels_path, num_dimensions=1)
    num_pictures = len(_pictures(pictures_path))
    if len(labels) != num_pictures:
        raise BadDataError(
            f"{labels_path} has {len(labels):,} labels for {num_pictures:,} pictures", hint="the two files do not belong together"
        )
    if (unknown := labels >= len(LABELS)).any():
        place = int(unknown.argmax())
        raise BadDataError(
            f"{labels_path}: item {place} has the unknown label {labels[place]}", hint=f"labels go from 0 to {len(LABELS) - 1}"
        )
    return [
        Item(
            key=f"{prefix}-{place:05d}",
            locator=f"{pictures_path.name}:{place}",
            label=LABELS[label],
            caption=LABELS[label].replace("/", " or "),
            split=_SPLITS[prefix],
            licence=LICENCE,
            source=f"fashion-mnist: {prefix}-images-idx3-ubyte[{place}]",
        )
        for place, label in enumerate(labels.tolist())
        if LABELS[label] in categories
    ]
