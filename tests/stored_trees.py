"""Trees of files that tests of object stores put and get."""

import os
from pathlib import Path

import pytest

from infra.objects.s3_upload import PART_BYTES

LARGE = "weights/large.bin"
NUM_PARTS = 4


def make_tree(folder: Path, *, large: bool = False) -> Path:
    files = {"config.json": b"{}", "empty": b"", "deep/er/é ü+%.txt": b"text", "picture.png": os.urandom(5000)}
    if large:
        files[LARGE] = os.urandom((NUM_PARTS - 1) * PART_BYTES + 12_345)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def large_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns files of which one goes in parts; for a fixture of a module."""
    return make_tree(tmp_path_factory.mktemp("large"), large=True)


def small_tree(tmp_path: Path) -> Path:
    """Returns a few small files; for a fixture."""
    return make_tree(tmp_path / "tree")


def place_in(s3_bucket: str) -> str:
    """Returns where to put them in a bucket; for a fixture."""
    return f"s3://{s3_bucket}/some/place"
