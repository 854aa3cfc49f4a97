"""IDX files, sound and damaged."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from model_core.data.dataset import Dataset
from model_core.data.importers.fashion_mnist import LABELS, grey_square, read_idx
from model_core.data.importing import import_dataset
from model_core.errors import BadDataError


def idx(values: np.ndarray, kind: int = 0x08) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.tobytes()


def write_idx_folder(folder: Path, *, num_train: int = 30, num_test: int = 10, zipped: bool = False) -> np.ndarray:
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    pictures = random.integers(0, 256, (num_train + num_test, 28, 28), dtype=np.uint8)
    labels = (np.arange(num_train + num_test) % 10).astype(np.uint8)
    for prefix, part in (("train", slice(num_train)), ("t10k", slice(num_train, None))):
        for name, values in ((f"{prefix}-images-idx3-ubyte", pictures[part]), (f"{prefix}-labels-idx1-ubyte", labels[part])):
            data = idx(values)
            (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return pictures


@pytest.mark.parametrize("zipped", [False, True])
def test_pictures_labels_and_splits(tmp_path: Path, zipped: bool) -> None:
    pictures = write_idx_folder(tmp_path / "idx", zipped=zipped)
    info = import_dataset(str(tmp_path / "idx"), tmp_path / "out", size=32)
    dataset = Dataset.open(tmp_path / "out")
    assert (info.licences, sorted(info.labels)) == (("MIT",), sorted(LABELS))
    assert (len(dataset.rows("train")), len(dataset.rows("holdout"))) == (30, 10)
    assert dataset.columns["label"][:3] == list(LABELS[:3])
    assert dataset.columns["caption"][0] == "t-shirt or top"
    assert (dataset.images(range(40))[:, 2:30, 2:30, 1] == pictures).all()


def test_some_labels_only(tmp_path: Path) -> None:
    write_idx_folder(tmp_path / "idx")
    info = import_dataset(f"fashion-mnist:{tmp_path / 'idx'}", tmp_path / "out", categories=["bag", "coat"])
    assert info.labels == ("bag", "coat")
    with pytest.raises(BadDataError, match="no label 'bags'"):
        import_dataset(f"fashion-mnist:{tmp_path / 'idx'}", tmp_path / "other", categories=["bags"])


def test_sizes() -> None:
    grey = np.full((28, 28), 100, dtype=np.uint8)
    assert grey_square(grey, 28).tolist() == np.full((28, 28, 3), 100).tolist()
    assert grey_square(grey, 32)[0].max() == 0
    assert grey_square(grey, 64).min() == 100


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG\r\n\x1a\n", "begins with 89504e47"),
        (idx(np.zeros((2, 3, 4), np.uint8), kind=0x0D), "begins with 00000d03"),
        (idx(np.zeros((2, 3), np.uint8)), "begins with 00000802"),
        (idx(np.zeros((2, 3, 4), np.uint8))[:9], "inside its header"),
        (idx(np.zeros((2, 3, 4), np.uint8))[:-1], "24 values but holds 23"),
        (idx(np.zeros((2, 3, 4), np.uint8)) + b"x", "24 values but holds more"),
        (idx(np.zeros((0, 3, 4), np.uint8)), "0x3x4"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "too large|4294967295x"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(BadDataError, match=message) as caught:
        read_idx(path, num_dimensions=3)
    assert path.name in str(caught.value)


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    for data in (gzip.compress(idx(np.zeros((2, 3, 4), np.uint8)))[:-9], b"no gzip at all"):
        path.write_bytes(data)
        with pytest.raises(BadDataError, match=r"a\.gz cannot be read"):
            read_idx(path, num_dimensions=3)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "idx"
    write_idx_folder(folder)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(BadDataError, match="29 labels for 30 pictures"):
        import_dataset(str(folder), tmp_path / "out")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.full(30, 10, np.uint8)))
    with pytest.raises(BadDataError, match="item 0 has the unknown label 10"):
        import_dataset(str(folder), tmp_path / "out")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(30, np.uint8)))
    with pytest.raises(BadDataError, match="lacks t10k-labels-idx1-ubyte"):
        import_dataset(str(folder), tmp_path / "out")
