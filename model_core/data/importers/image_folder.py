"""A folder of pictures with a `metadata.jsonl`: one JSON object a line, with `file_name`, and `text` and/or `label`.

A line may also say `licence` (an SPDX identifier), `source` and `split` ("train" or "holdout"). Where no line says a split, a
tenth is held out, and of a few pictures at least four, or a quarter.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from model_core.data.importers.plan import ImportPlan, Item, check_text, choose
from model_core.data.media import decode_picture, encode_png, square
from model_core.data.split import HOLDOUT, Split, held_out_of_few, split_of
from model_core.errors import BadDataError

METADATA_NAME = "metadata.jsonl"
UNKNOWN_LICENCE = "NOASSERTION"
"""SPDX's word for "nobody has said"."""

_MAX_LINE_BYTES = 1 << 18
_MAX_FILE_BYTES = 256 << 20
_LICENCE = re.compile(r"[A-Za-z0-9.+\-() ]{1,200}")


class MetadataLine(BaseModel):
    """One line of a `metadata.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_name: str
    text: str = ""
    label: str = ""
    licence: str = UNKNOWN_LICENCE
    source: str = ""
    split: Split | None = None


@dataclass(frozen=True, kw_only=True)
class FileRenderer:
    """Makes a picture from a file: turned upright, cut to its middle square, resampled.

    Attributes:
        folder: What the files' names are relative to.
        size: The width and height of the picture.
    """

    folder: str
    size: int

    def __call__(self, item: Item) -> bytes:
        """Returns the item's picture as the bytes of a PNG file."""
        data = _read_regular_file(Path(self.folder) / item.locator)
        return encode_png(square(decode_picture(data, name=item.locator, upright=True), self.size))


def _read_regular_file(path: Path) -> bytes:
    """Reads a file without following a link in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadDataError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise BadDataError(f"{path} has more than {_MAX_FILE_BYTES >> 20} MiB", hint="shrink the picture")
    return data


def plan_image_folder(
    folder: Path, *, size: int = 32, categories: Sequence[str] | None = None, limit: int | None = None
) -> ImportPlan:
    """Plans an import of a folder with a `metadata.jsonl`.

    Args:
        folder: The folder.
        size: The width and height of each picture, in pixels.
        categories: Which labels to take; all when None.
        limit: How many items to take at most.

    Raises:
        BadDataError: A line is malformed, names a file outside the folder, a link or a file that is missing, or names
            a file twice; or no line has a wanted label.
    """
    lines = list(read_metadata(folder / METADATA_NAME))
    check_unique(folder, lines)
    wanted = None if categories is None else sorted(set(categories))
    known = {line.label for _, line in lines}
    for category in wanted or ():
        if category not in known:
            raise BadDataError(
                f"{folder / METADATA_NAME} has no label {category!r}", hint=f"labels: {', '.join(sorted(known - {''}))}"
            )
    chosen = [(number, line) for number, line in lines if wanted is None or line.label in wanted]
    items = choose([folder_item(folder, number, line) for number, line in chosen], limit)
    if not any(line.split for _, line in chosen):
        held_out = held_out_of_few([item.locator for item in items])
        items = tuple(replace(item, split=HOLDOUT) if item.locator in held_out else item for item in items)
    return ImportPlan(
        name=folder.resolve().name,
        importer="image-folder",
        options={"categories": wanted, "limit": limit, "size": size},
        attribution=f"Imported from the folder {folder.resolve().name!r}; each item's licence and source stand in the manifest.",
        image_size=size,
        items=items,
        render=FileRenderer(folder=str(folder), size=size),
        source_state=" ".join(file_state(folder / item.locator) for item in items),
    )


def file_state(path: Path) -> str:
    """Returns what changes when a file does: its size and the time of its last change."""
    state = path.stat()
    return f"{state.st_size}:{state.st_mtime_ns}"


def read_metadata(path: Path) -> Iterator[tuple[int, MetadataLine]]:
    """Reads a `metadata.jsonl` and yields each line with its number, from 1; empty lines are passed over.

    Raises:
        BadDataError: A line is no JSON object, has an unknown or missing key, or holds text that cannot be stored.
    """
    if path.is_symlink():
        raise BadDataError(f"{path} is a symbolic link", hint="replace it by the file")
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(_MAX_LINE_BYTES + 1), b""), start=1):
            where = f"{path.name} line {number}"
            if len(raw) > _MAX_LINE_BYTES:
                raise BadDataError(f"{where} is longer than {_MAX_LINE_BYTES:,} bytes", hint="shorten its text")
            if raw.strip():
                yield number, _parse(raw, where)


def _parse(raw: bytes, where: str) -> MetadataLine:
    try:
        line = MetadataLine.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        keys = ", ".join(MetadataLine.model_fields)
        raise BadDataError(
            f"{where}: {key}: {first['msg']}" if key else f"{where}: {first['msg']}", hint=f"keys: {keys}"
        ) from error
    if not _LICENCE.fullmatch(line.licence):
        raise BadDataError(
            f"{where}: licence {line.licence[:40]!r} is no SPDX identifier", hint="for example MIT, CC-BY-4.0 or NOASSERTION"
        )
    texts = {key: check_text(getattr(line, key), what=f"{where}: {key}") for key in ("text", "label", "source")}
    return line.model_copy(update=texts)


def check_unique(folder: Path, lines: Sequence[tuple[int, MetadataLine]]) -> None:
    """Checks that no two lines name one file.

    Raises:
        BadDataError: Two do.
    """
    seen: dict[str, int] = {}
    for number, line in lines:
        if (earlier := seen.setdefault(line.file_name, number)) != number:
            raise BadDataError(
                f"{METADATA_NAME} lines {earlier} and {number} name the same file {line.file_name!r}",
                hint=f"remove one from {folder / METADATA_NAME}",
            )


def folder_item(folder: Path, number: int, line: MetadataLine) -> Item:
    """Returns the item of a line; its locator is the file's path below the folder.

    Raises:
        BadDataError: The file lies outside the folder, behind a link, or is missing.
    """
    where = f"{METADATA_NAME} line {number}"
    relative = _safe_path(folder, line.file_name, where)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", relative.stem)[:60].strip("-")
    return Item(
        key=f"{number:07d}-{stem}" if stem else f"{number:07d}",
        locator=str(relative),
        label=line.label,
        caption=line.text,
        split=line.split or split_of(line.file_name),
        licence=line.licence,
        source=line.source or line.file_name,
    )


def _safe_path(folder: Path, name: str, where: str) -> PurePosixPath:
    """Returns a file's path below the folder.

    Raises:
        BadDataError: It leads out of the folder, through a link, or to no file.
    """
    relative = PurePosixPath(check_text(name, what=f"{where}: file_name"))
    if relative.is_absolute() or not relative.parts or ".." in relative.parts or "\\" in name or ":" in relative.parts[0]:
        raise BadDataError(f"{where}: {name!r} lies outside the folder", hint="name files relative to the folder, without '..'")
    path = folder
    for part in relative.parts:
        path /= part
        if path.is_symlink():
            raise BadDataError(f"{where}: {name!r} is or lies behind a symbolic link", hint="replace the link by the file")
    if not path.is_file():
        raise BadDataError(f"{where}: there is no file {name!r}", hint=f"looked in {folder}")
    return relative
