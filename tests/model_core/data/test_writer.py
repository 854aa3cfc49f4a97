"""What is written: readable by any tar, and the same bytes each time."""

import tarfile
from pathlib import Path

from model_core.data.dataset import Dataset, DatasetInfo
from model_core.data.importers.plan import Item
from model_core.data.writer import write_dataset
from tests.model_core.data.toy import toy_dataset


def test_items_are_cut_into_shards(tmp_path: Path) -> None:
    source = toy_dataset(tmp_path)
    info = DatasetInfo(name="toy", importer="test", options={}, labels=(), licences=("MIT",), attribution="", image_size=16)
    items = [
        (
            Item(key=f"item-{row}", locator="", label="", caption="", split="train", licence="MIT", source="test"),
            source.read_bytes(row),
        )
        for row in range(len(source))
    ]
    write_dataset(tmp_path / "cut", info, items, shard_bytes=2_000)
    cut = Dataset.open(tmp_path / "cut")
    names = sorted(set(cut.columns["shard"]))
    assert len(names) > 2
    assert [cut.read_bytes(row) for row in range(len(cut))] == [png for _, png in items]
    for name in names:
        with tarfile.open(cut.folder / name) as tar:
            assert all((member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "") for member in tar.getmembers())
        assert (cut.folder / name).stat().st_size % tarfile.RECORDSIZE == 0
