"""Small datasets for tests, made by the real importer of image folders."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from model_core.data.dataset import Dataset
from model_core.data.importing import import_dataset

SIZE = 16


def picture(seed: int, *, size: int = SIZE) -> Image.Image:
    """Returns a picture of random noise: two seeds are far apart."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def picture_folder(folder: Path, lines: Sequence[Mapping[str, Any]], *, write: bool = True) -> Path:
    """Writes a folder with a metadata.jsonl and, for each line, a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    if write:
        for seed, line in enumerate(lines):
            picture(seed).save(folder / line["file_name"])
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(dict(line))}\n" for line in lines), encoding="utf-8")
    return folder


def lines(num_items: int = 12, **more: Any) -> list[dict[str, Any]]:
    """Returns metadata for items of two labels, every third held out."""
    return [
        {
            "file_name": f"{place}.png",
            "text": f"picture number {place}",
            "label": ("cat", "dog")[place % 2],
            "licence": "CC0-1.0",
            "split": "holdout" if place % 3 == 0 else "train",
            **more,
        }
        for place in range(num_items)
    ]


def toy_dataset(tmp_path: Path, *, num_items: int = 12) -> Dataset:
    """Builds a small dataset in `tmp_path / "dataset"`."""
    source = picture_folder(tmp_path / "pictures", lines(num_items))
    import_dataset(str(source), tmp_path / "dataset", size=SIZE, workers=1)
    return Dataset.open(tmp_path / "dataset")


def change_manifest(folder: Path, column: str, row: int, value: object) -> None:
    """Changes one cell of a dataset's manifest, as an intruder would."""
    path = folder / "manifest.parquet"
    table = pq.ParquetFile(path).read()
    values = table[column].to_pylist()
    values[row] = value
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, type=table.schema.field(column).type)), path)


def patch_bytes(path: Path, offset: int, data: bytes) -> None:
    """Overwrites bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(bytes(content))
