"""Reading a dataset: a folder with `manifest.parquet`, `dataset.json` and the media in tar shards."""

import json
import mmap
import re
from collections import OrderedDict
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_core.data.manifest import MANIFEST_NAME, read_manifest
from model_core.data.media import Pixels, decode_filmstrip
from model_core.data.split import SPLITS
from model_core.errors import BadDataError

INFO_NAME = "dataset.json"
OPEN_SHARDS = 16
"""How many shards a dataset keeps open: each is a map and a file descriptor, of which a process has some thousand."""
_SHARD_NAME = re.compile(r"shards/[A-Za-z0-9_][A-Za-z0-9._-]*\.tar")


class DatasetInfo(BaseModel):
    """What `dataset.json` says.

    Attributes:
        name: What the dataset is called.
        importer: What made it.
        options: What the importer was asked for.
        labels: The classes, sorted.
        licences: The SPDX identifiers found in the manifest, sorted.
        attribution: Whom to name, and how, wherever the data or what was made from it is shown.
        image_size: The width and height of each picture, in pixels.
        num_frames: Frames of each item: 1 for pictures.
        fps: Frames a second; 0.0 for pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    importer: str
    options: dict[str, Any]
    labels: tuple[str, ...]
    licences: tuple[str, ...]
    attribution: str
    image_size: int
    num_frames: int = Field(default=1, ge=1)
    fps: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def to_text(self) -> str:
        """Returns the content of `dataset.json`; what is only of clips is left out for pictures."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_info(folder: Path) -> DatasetInfo:
    """Reads the `dataset.json` of a dataset.

    Raises:
        BadDataError: It is missing or malformed.
    """
    path = folder / INFO_NAME
    if not path.is_file():
        raise BadDataError(f"{path} does not exist", hint="a dataset is a folder made by `groundswell data import`")
    try:
        return DatasetInfo.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadDataError(f"{path}: {where}: {first['msg']}", hint="import the dataset again") from error
    except ValueError as error:
        raise BadDataError(f"{path} is not JSON: {error}", hint="import the dataset again") from error


class Dataset:
    """A dataset that is open for reading.

    Shards are memory-mapped when read, the last `OPEN_SHARDS` at a time; reading is safe from several threads.

    Attributes:
        folder: Where it is.
        info: What `dataset.json` says.
        table: The manifest.
    """

    def __init__(self, folder: Path, info: DatasetInfo, table: pa.Table) -> None:
        self.folder = folder
        self.info = info
        self.table = table
        self._arrays: dict[str, pa.Array] = {}
        self._shards: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Opens the dataset in a folder.

        Raises:
            BadDataError: The folder is no dataset, or its manifest has other columns or no rows.
        """
        if not folder.is_dir():
            raise BadDataError(f"{folder} is not a folder", hint="a dataset is a folder made by `groundswell data import`")
        return cls(folder, read_info(folder), read_manifest(folder / MANIFEST_NAME))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def labels(self) -> list[str]:
        """The classes, sorted: a label's index is its place in this list."""
        return list(self.info.labels)

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """The manifest as lists of Python values, by column: some 0.8 kB an item. `value` needs none of it."""
        return {name: self.table[name].to_pylist() for name in self.table.column_names}

    def value(self, column: str, row: int) -> Any:
        """Returns one cell of the manifest."""
        if column not in self._arrays:
            self._arrays[column] = self.table[column].combine_chunks()
        return self._arrays[column][row].as_py()

    def label_index(self, label: str) -> int:
        """Returns the index of a label.

        Raises:
            BadDataError: The dataset has no such label.
        """
        if label in self.info.labels:
            return self.info.labels.index(label)
        close = get_close_matches(label, self.info.labels, n=1)
        known = f"did you mean {close[0]!r}?" if close else f"known labels: {', '.join(self.info.labels)}"
        raise BadDataError(f"dataset {self.info.name!r} has no label {label!r}", hint=known)

    def rows(self, split: str) -> list[int]:
        """Returns the numbers of the rows of a split, in order."""
        if split not in SPLITS:
            raise BadDataError(f"there is no split {split!r}", hint=f"splits: {', '.join(SPLITS)}")
        found: list[int] = np.flatnonzero(pc.equal(self.table["split"], split).to_numpy()).tolist()
        return found

    def describe(self, row: int) -> str:
        """Returns what to call a row in an error."""
        return f"row {row} ({self.value('shard', row)}:{self.value('path', row)})"

    def read_bytes(self, row: int) -> bytes:
        """Returns the encoded bytes of an item, as the manifest locates them.

        Raises:
            BadDataError: The shard is missing or lies outside the dataset, or the bytes lie outside the shard.
        """
        shard = self._open_shard(row)
        offset, size_bytes = self.value("offset", row), self.value("size_bytes", row)
        if offset < 0 or size_bytes <= 0 or offset + size_bytes > len(shard):
            raise BadDataError(
                f"{self.describe(row)}: bytes {offset} to {offset + size_bytes} lie outside the shard of {len(shard)} bytes",
                hint="the shard is cut short or the manifest was changed; import the dataset again",
            )
        return shard[offset : offset + size_bytes]

    def read_clip(self, row: int) -> Pixels:
        """Returns the frames of a row, uint8 [frames height width 3]; a picture has one.

        Raises:
            BadDataError: As for `read_bytes`, or the frames cannot be decoded.
        """
        return decode_filmstrip(self.read_bytes(row), self.value("frames", row), name=self.describe(row))

    def read_image(self, row: int) -> Pixels:
        """Returns the picture of a row, of a clip the frame in its middle: uint8 [height width 3].

        Raises:
            BadDataError: As for `read_clip`.
        """
        frames = self.read_clip(row)
        picture: Pixels = frames[len(frames) // 2]
        return picture

    def clips(self, rows: Iterable[int]) -> Pixels:
        """Returns the frames of several rows of one size and length, uint8 [items frames height width 3].

        Raises:
            BadDataError: As for `read_clip`, or an item has another size or length than the dataset's.
        """
        size, num_frames = self.info.image_size, self.info.num_frames
        found = []
        for row in rows:
            frames = self.read_clip(row)
            if frames.shape[1:] != (size, size, 3):
                raise BadDataError(f"{self.describe(row)} is {frames.shape[2]}x{frames.shape[1]} pixels, not {size}x{size}")
            if len(frames) != num_frames:
                raise BadDataError(f"{self.describe(row)} has {len(frames)} frames, not {num_frames}")
            found.append(frames)
        return np.stack(found) if found else np.zeros((0, num_frames, size, size, 3), dtype=np.uint8)

    def images(self, rows: Iterable[int]) -> Pixels:
        """Returns one picture a row, of clips the frame in the middle, uint8 [items height width 3].

        Raises:
            BadDataError: As for `clips`.
        """
        size, middle = self.info.image_size, self.info.num_frames // 2
        pictures = [self.clips([row])[0, middle] for row in rows]
        return np.stack(pictures) if pictures else np.zeros((0, size, size, 3), dtype=np.uint8)

    def _open_shard(self, row: int) -> mmap.mmap:
        """Maps the shard of a row; one that is no longer kept closes when whoever reads from it is done."""
        name = self.value("shard", row)
        with self._lock:
            if name not in self._shards:
                self._shards[name] = self._map(row, name)
            self._shards.move_to_end(name)
            while len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
            return self._shards[name]

    def _map(self, row: int, name: str) -> mmap.mmap:
        path = self.folder / name
        if not _SHARD_NAME.fullmatch(name) or path.is_symlink() or path.parent.is_symlink():
            raise BadDataError(
                f"{self.describe(row)}: {name!r} is not a shard of this dataset", hint="shards lie in shards/*.tar"
            )
        if not path.is_file() or path.stat().st_size == 0:
            raise BadDataError(f"{self.describe(row)}: the shard {path} is missing or empty", hint="import the dataset again")
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
