"""Reading datasets, sound and damaged."""

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from model_core.data.dataset import Dataset
from model_core.data.manifest import SCHEMA
from model_core.errors import BadDataError
from tests.model_core.data.toy import SIZE, change_manifest, toy_dataset


def test_rows_are_read_as_the_tar_files_hold_them(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    assert len(dataset) == 12
    for row in range(len(dataset)):
        columns = dataset.columns
        with tarfile.open(dataset.folder / columns["shard"][row]) as tar:
            member = tar.extractfile(columns["path"][row])
            assert member is not None
            data = member.read()
        assert dataset.read_bytes(row) == data
        assert hashlib.sha256(data).hexdigest() == columns["sha256"][row]


def test_images_are_those_that_were_imported(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    images = dataset.images(range(len(dataset)))
    assert images.shape == (12, SIZE, SIZE, 3)
    for row, source in enumerate(dataset.columns["source"]):
        assert (images[row] == np.asarray(Image.open(tmp_path / "pictures" / source))).all()
    assert dataset.images([]).shape == (0, SIZE, SIZE, 3)


def test_splits_and_labels(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    assert (len(dataset.rows("train")), len(dataset.rows("holdout"))) == (8, 4)
    assert sorted(dataset.rows("train") + dataset.rows("holdout")) == list(range(12))
    assert dataset.labels == ["cat", "dog"]
    assert dataset.label_index("dog") == 1
    with pytest.raises(BadDataError, match="no split 'test'"):
        dataset.rows("test")


def test_an_unknown_label_is_answered_with_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="no label 'cats'") as caught:
        toy_dataset(tmp_path).label_index("cats")
    assert caught.value.hint == "did you mean 'cat'?"


@pytest.mark.parametrize(("column", "value"), [("offset", -1), ("offset", 10**9), ("size_bytes", 10**9), ("size_bytes", 0)])
def test_bytes_outside_the_shard_are_refused(tmp_path: Path, column: str, value: int) -> None:
    toy_dataset(tmp_path)
    change_manifest(tmp_path / "dataset", column, 2, value)
    dataset = Dataset.open(tmp_path / "dataset")
    with pytest.raises(BadDataError, match=r"row 2 \(.*outside the shard"):
        dataset.read_bytes(2)


@pytest.mark.parametrize(
    "shard", ["../pictures/0.png", "/etc/passwd", "shards/../dataset.json", "shards/..tar", "", "dataset.json"]
)
def test_shards_outside_the_folder_are_refused(tmp_path: Path, shard: str) -> None:
    toy_dataset(tmp_path)
    change_manifest(tmp_path / "dataset", "shard", 0, shard)
    with pytest.raises(BadDataError, match="not a shard of this dataset"):
        Dataset.open(tmp_path / "dataset").read_bytes(0)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    (dataset.folder / "shards/train-00000.tar").unlink()
    with pytest.raises(BadDataError, match=r"train-00000\.tar is missing"):
        Dataset.open(dataset.folder).read_bytes(0)


def test_a_linked_shard_is_refused(tmp_path: Path) -> None:
    shard = toy_dataset(tmp_path).folder / "shards/train-00000.tar"
    shard.rename(tmp_path / "elsewhere.tar")
    shard.symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(BadDataError, match="not a shard"):
        Dataset.open(tmp_path / "dataset").read_bytes(0)


def rewrite(folder: Path, table: pa.Table) -> None:
    pq.write_table(table, folder / "manifest.parquet")


def test_a_manifest_with_other_columns_is_refused(tmp_path: Path) -> None:
    folder, table = toy_dataset(tmp_path).folder, toy_dataset(tmp_path / "again").table
    rewrite(folder, table.drop_columns(["caption"]))
    with pytest.raises(BadDataError, match="lacks the column 'caption'"):
        Dataset.open(folder)
    rewrite(folder, table.append_column("extra", pa.array(["x"] * len(table))))
    with pytest.raises(BadDataError, match="has columns"):
        Dataset.open(folder)
    rewrite(folder, table.set_column(2, "offset", pa.array(["0"] * len(table))))
    with pytest.raises(BadDataError, match="column 'offset' is string, not int64"):
        Dataset.open(folder)
    change_to_null = table.set_column(10, "caption", pa.array(["a", None] * 6))
    rewrite(folder, change_to_null)
    with pytest.raises(BadDataError, match="row 1 has no 'caption'"):
        Dataset.open(folder)


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    folder = toy_dataset(tmp_path).folder
    rewrite(folder, SCHEMA.empty_table())
    with pytest.raises(BadDataError, match="empty"):
        Dataset.open(folder)


@pytest.mark.parametrize("name", ["manifest.parquet", "dataset.json"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    path = toy_dataset(tmp_path).folder / name
    path.write_bytes(b"\0\1\2")
    with pytest.raises(BadDataError, match=name):
        Dataset.open(path.parent)
    path.unlink()
    with pytest.raises(BadDataError, match=f"{name} does not exist"):
        Dataset.open(path.parent)


def test_an_unknown_key_in_dataset_json_is_named(tmp_path: Path) -> None:
    path = toy_dataset(tmp_path).folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lables": []}))
    with pytest.raises(BadDataError, match="lables"):
        Dataset.open(path.parent)


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    path = toy_dataset(tmp_path).folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_size": 64}))
    with pytest.raises(BadDataError, match="16x16 pixels, not 64x64"):
        Dataset.open(path.parent).images([0])
