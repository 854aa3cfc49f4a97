"""Datasets and latents of many shards: what is open stays the same, however many there are."""

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from model_core.data import latents as latents_module
from model_core.data.dataset import OPEN_SHARDS, Dataset
from model_core.data.importers.plan import Item
from model_core.data.latent_moments import channel_moments
from model_core.data.latents import (
    INDEX_SCHEMA,
    LatentDataset,
    LatentsConfig,
    TextEncoderInfo,
    shard_name,
    write_index,
    write_shard,
)
from model_core.data.media import encode_png
from model_core.data.writer import write_dataset
from tests.model_core.data.toy import SIZE, picture, toy_dataset

NUM_SHARDS = 60
needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="only Linux tells what a process has open")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two pictures in each of 60 tar files."""
    folder = tmp_path_factory.mktemp("many")
    info = toy_dataset(folder).info
    items = [
        (
            Item(key=f"{place:04d}", locator="", label="cat", caption="", split="train", licence="CC0-1.0", source="toy"),
            encode_png(np.asarray(picture(place))),
        )
        for place in range(2 * NUM_SHARDS)
    ]
    write_dataset(folder / "shards", info, items, shard_bytes=2 * max(len(png) for _, png in items))
    return Dataset.open(folder / "shards")


def maps_of(folder: Path) -> int:
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


@needs_proc
def test_a_dataset_keeps_few_of_its_shards_open(dataset: Dataset) -> None:
    assert dataset.table["shard"].value_counts().__len__() >= NUM_SHARDS
    before, most, files = len(list(Path("/proc/self/fd").iterdir())), 0, 0
    for row in range(len(dataset)):
        assert np.array_equal(dataset.read_image(row), np.asarray(picture(row)))
        most = max(most, maps_of(dataset.folder))
        files = max(files, len(list(Path("/proc/self/fd").iterdir())) - before)
    assert 1 < most <= OPEN_SHARDS
    assert files <= OPEN_SHARDS


def test_threads_that_read_many_shards_at_once_get_their_own_bytes(dataset: Dataset) -> None:
    wrong: list[int] = []

    def read(first: int) -> None:
        for step in range(len(dataset)):
            row = (first + 7 * step) % len(dataset)
            if dataset.read_image(row).shape != (SIZE, SIZE, 3):
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(first,)) for first in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def write_latents(folder: Path, latents: torch.Tensor) -> None:
    """Writes latents, three a shard."""
    for number, part in enumerate(latents.split(3)):
        write_shard(folder, number, part)
    index = [
        {
            "shard": shard_name(row // 3),
            "row": row % 3,
            "sha256": "",
            "split": "holdout" if row % 5 == 0 else "train",
            "label_index": -1,
            "caption_index": -1,
        }
        for row in range(len(latents))
    ]
    config = LatentsConfig(
        codec_digest="c",
        dataset_digest="d",
        latent_shape=tuple(latents.shape[1:]),
        image_size=8,
        labels=(),
        text_encoder=TextEncoderInfo(name="toy", digest="e", dim=2),
    )
    write_index(folder, config, pa.Table.from_pylist(index, schema=INDEX_SCHEMA), captions=[], embeddings=torch.zeros(0, 2))


@needs_proc
def test_latents_keep_few_of_their_shards_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents_module, "MAPPED_SHARDS", 8)
    latents = torch.randn(3 * NUM_SHARDS, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    write_latents(tmp_path, latents)
    opened = LatentDataset.open(tmp_path)
    order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(1))
    for rows in order.split(30):
        assert torch.equal(opened.latents(rows.tolist()), latents[rows])
        assert maps_of(tmp_path / "shards") <= 8


def test_moments_of_shards_are_those_of_all_latents(tmp_path: Path) -> None:
    """Far from zero and hardly spread, where sums of squares would leave nothing."""
    latents = 1000 + 0.01 * torch.randn(32, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0)) ** 3
    write_latents(tmp_path, latents)
    chosen = torch.arange(32) % 5 != 0
    chosen[9:12] = False  # a whole shard
    found = channel_moments(tmp_path, chosen)
    kept = latents[chosen].double().transpose(0, 1).flatten(1).numpy()
    assert found.mean.tolist() == pytest.approx(kept.mean(axis=1))
    assert found.std.tolist() == pytest.approx(kept.std(axis=1))
    standard = (kept - kept.mean(axis=1, keepdims=True)) / kept.std(axis=1, keepdims=True)
    assert found.kurtosis.tolist() == pytest.approx((standard**4).mean(axis=1))
