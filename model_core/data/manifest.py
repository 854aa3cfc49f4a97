"""The manifest of a dataset: one row an item, in `manifest.parquet`."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model_core.errors import BadDataError

MANIFEST_NAME = "manifest.parquet"

SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("frames", pa.int32()),
        ("fps", pa.float64()),
        ("label", pa.string()),
        ("caption", pa.string()),
        ("split", pa.string()),
        ("licence", pa.string()),
        ("source", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One item of a dataset.

    Attributes:
        shard: The tar file that holds the item, relative to the dataset's folder.
        path: The name of the item inside the tar file.
        offset: Where the item's bytes begin in the tar file.
        size_bytes: How many bytes it has.
        sha256: The digest of these bytes.
        width: In pixels.
        height: In pixels.
        frames: 1 for a picture.
        fps: Frames a second; 0.0 for a picture.
        label: The item's class; empty where it has none.
        caption: What the item shows, in words; empty where it has none.
        split: "train" or "holdout".
        licence: An SPDX identifier.
        source: Where the item came from.
    """

    shard: str
    path: str
    offset: int
    size_bytes: int
    sha256: str
    width: int
    height: int
    frames: int = 1
    fps: float = 0.0
    label: str
    caption: str
    split: str
    licence: str
    source: str


def write_manifest(rows: Iterable[Row], path: Path) -> None:
    """Writes a manifest; the same rows give the same bytes."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def read_manifest(path: Path) -> pa.Table:
    """Reads a manifest and checks its columns.

    Raises:
        BadDataError: The file is missing or no Parquet file, has other columns or types than `SCHEMA`, holds nulls,
            or has no rows.
    """
    if not path.is_file():
        raise BadDataError(f"{path} does not exist", hint="a dataset is a folder made by `groundswell data import`")
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise BadDataError(f"{path} is not a readable Parquet file: {error}", hint="import the dataset again") from error
    check_columns(table, name=str(path))
    return table


def check_columns(table: pa.Table, *, name: str) -> None:
    """Checks that a table is a manifest.

    Raises:
        BadDataError: It is not, and how.
    """
    hint = "the columns and their types are listed in model_core/data/manifest.py; import the dataset again"
    for field in SCHEMA:
        if field.name not in table.column_names:
            raise BadDataError(f"{name} lacks the column {field.name!r}", hint=hint)
        found = table.schema.field(field.name).type
        if found != field.type:
            raise BadDataError(f"{name}: column {field.name!r} is {found}, not {field.type}", hint=hint)
        if table[field.name].null_count:
            row = table[field.name].is_null().to_pylist().index(True)
            raise BadDataError(f"{name}: row {row} has no {field.name!r}", hint="empty text is '', never null")
    if table.column_names != SCHEMA.names:
        raise BadDataError(f"{name} has columns {table.column_names}, not {SCHEMA.names}", hint=hint)
    if table.num_rows == 0:
        raise BadDataError(f"{name} has no rows: the dataset is empty", hint="import something into it")
