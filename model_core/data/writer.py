"""Writing a dataset: tar shards, manifest and `dataset.json`, the same bytes for the same items."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from model_core.data.dataset import INFO_NAME, DatasetInfo
from model_core.data.importers.plan import Item
from model_core.data.manifest import MANIFEST_NAME, Row, write_manifest
from model_core.data.split import SPLITS

SHARD_BYTES = 64 << 20
"""A shard is closed before it would grow beyond this."""


class ShardWriter:
    """One tar file (ustar), without times, owners or anything else that changes from one writing to the next."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, name: str, data: bytes) -> int:
        """Adds a member and returns where its data begin."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        self._file.write(member.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict"))
        offset = self._file.tell()
        self._file.write(data)
        self._file.write(b"\0" * (-len(data) % tarfile.BLOCKSIZE))
        return offset

    def finish(self) -> None:
        """Writes the end of the archive."""
        self._file.write(b"\0" * (2 * tarfile.BLOCKSIZE))
        self._file.write(b"\0" * (-self._file.tell() % tarfile.RECORDSIZE))


def write_dataset(
    folder: Path, info: DatasetInfo, items: Sequence[tuple[Item, bytes]], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes a dataset into an empty folder: first the training split, then the holdout, each in the order given.

    Args:
        folder: Where to write.
        info: What goes into `dataset.json`.
        items: The items with their PNG files.
        shard_bytes: The size that a shard does not exceed unless a single item does.
    """
    (folder / "shards").mkdir(parents=True)
    rows: list[Row] = []
    for split in SPLITS:
        chosen = [(item, png) for item, png in items if item.split == split]
        for number, shard in enumerate(_batches(chosen, shard_bytes)):
            name = f"shards/{split}-{number:05d}.tar"
            rows += _write_shard(folder / name, name, shard, info)
    write_manifest(rows, folder / MANIFEST_NAME)
    (folder / INFO_NAME).write_text(info.to_text(), encoding="utf-8")


def _batches(items: Sequence[tuple[Item, bytes]], shard_bytes: int) -> Iterator[list[tuple[Item, bytes]]]:
    """Cuts the items into what fits into one shard each."""
    batch: list[tuple[Item, bytes]] = []
    filled = 0
    for item, png in items:
        if batch and filled + len(png) > shard_bytes:
            yield batch
            batch, filled = [], 0
        batch.append((item, png))
        filled += len(png)
    if batch:
        yield batch


def _write_shard(path: Path, name: str, items: Sequence[tuple[Item, bytes]], info: DatasetInfo) -> list[Row]:
    with ExitStack() as stack:
        shard = ShardWriter(stack.enter_context(path.open("wb")))
        rows = [_row(item, png, shard=name, offset=shard.add(f"{item.key}.png", png), info=info) for item, png in items]
        shard.finish()
    return rows


def _row(item: Item, png: bytes, *, shard: str, offset: int, info: DatasetInfo) -> Row:
    return Row(
        shard=shard,
        path=f"{item.key}.png",
        offset=offset,
        size_bytes=len(png),
        sha256=hashlib.sha256(png).hexdigest(),
        width=info.image_size,
        height=info.image_size,
        frames=info.num_frames,
        fps=info.fps,
        label=item.label,
        caption=item.caption,
        split=item.split,
        licence=item.licence,
        source=item.source,
    )
