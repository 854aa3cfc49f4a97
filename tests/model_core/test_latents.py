import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from model_core.data.latents import (
    CAPTIONS_NAME,
    CONFIG_NAME,
    EMBEDDINGS_NAME,
    INDEX_NAME,
    INDEX_SCHEMA,
    LatentDataset,
    LatentsConfig,
    TextEncoderInfo,
    shard_name,
    write_index,
    write_shard,
)
from model_core.errors import BadDataError

SHAPE = (4, 1, 2, 2)
SHARD_SIZE = 3


def write(folder: Path, num_items: int = 8) -> torch.Tensor:
    """Writes latents in shards of three; returns them all, as the oracle."""
    latents = torch.randn(num_items, *SHAPE, generator=torch.Generator().manual_seed(0))
    for number, part in enumerate(latents.split(SHARD_SIZE)):
        write_shard(folder, number, part)
    entries = [
        {
            "shard": shard_name(row // SHARD_SIZE),
            "row": row % SHARD_SIZE,
            "sha256": f"{row:064x}",
            "split": "holdout" if row % 4 == 0 else "train",
            "label_index": row % 3 - 1,
            "caption_index": -1 if row == 0 else row % 2,
        }
        for row in range(num_items)
    ]
    config = LatentsConfig(
        codec_digest="c" * 64,
        dataset_digest="d" * 64,
        latent_shape=SHAPE,
        image_size=8,
        labels=("cat", "dog"),
        text_encoder=TextEncoderInfo(name="toy", digest="e" * 64, dim=2),
    )
    write_index(
        folder,
        config,
        pa.Table.from_pylist(entries, schema=INDEX_SCHEMA),
        captions=["a\0b", "größe"],
        embeddings=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    )
    return latents


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 7), max_size=12))
def test_any_rows_in_any_order_equal_those_in_memory(tmp_path_factory: pytest.TempPathFactory, rows: list[int]) -> None:
    folder = tmp_path_factory.mktemp("latents")
    latents = write(folder)
    opened = LatentDataset.open(folder)
    assert torch.equal(opened.latents(rows), latents[rows])


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    opened = LatentDataset.open(tmp_path)
    assert len(opened) == 8
    assert opened.config.labels == ("cat", "dog")
    assert opened.config.latent_shape == SHAPE
    assert opened.captions == ("a\0b", "größe")
    assert opened.rows("holdout") == [0, 4]
    assert opened.label_indices([0, 1, 2]).tolist() == [-1, 0, 1]
    assert opened.caption_indices([0, 1, 2]).tolist() == [-1, 1, 0]
    assert opened.caption_embeddings([0, 1, 2]).tolist() == [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]


def test_rows_may_come_as_a_tensor_or_an_array(tmp_path: Path) -> None:
    latents = write(tmp_path)
    opened = LatentDataset.open(tmp_path)
    assert torch.equal(opened.latents(torch.tensor([5, 1])), latents[[5, 1]])  # type: ignore[arg-type]
    assert torch.equal(opened.latents(np.array([5, 1])), latents[[5, 1]])  # type: ignore[arg-type]


def test_changing_what_was_read_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    latents = write(tmp_path)
    opened = LatentDataset.open(tmp_path)
    opened.latents([0, 1]).zero_()
    assert torch.equal(opened.latents([0, 1]), latents[:2])
    assert torch.equal(LatentDataset.open(tmp_path).latents([0, 1]), latents[:2])


def test_the_same_latents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 7
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)


@pytest.mark.parametrize("name", [CONFIG_NAME, INDEX_NAME, CAPTIONS_NAME, EMBEDDINGS_NAME, shard_name(1)])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "foreign"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    write(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "foreign": b"PK\x03\x04 something else"}[damage])
    with pytest.raises(BadDataError, match=Path(name).name.replace(".", r"\.")):
        LatentDataset.open(tmp_path)


def test_a_shard_of_another_shape_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    write_shard(tmp_path, 1, torch.zeros(3, 5, 1, 2, 2))
    with pytest.raises(BadDataError, match="does not fit"):
        LatentDataset.open(tmp_path)
    save_file({"latents": torch.zeros(3, *SHAPE, dtype=torch.float64)}, tmp_path / shard_name(1))
    with pytest.raises(BadDataError, match="float64"):
        LatentDataset.open(tmp_path)


def test_a_shard_with_fewer_rows_is_refused(tmp_path: Path) -> None:
    latents = write(tmp_path)
    write_shard(tmp_path, 0, latents[:2])
    with pytest.raises(BadDataError, match="does not fit"):
        LatentDataset.open(tmp_path)


def test_an_index_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    config = LatentDataset.open(tmp_path).config
    entry = {
        "shard": "shards/../../outside.safetensors",
        "row": 0,
        "sha256": "",
        "split": "train",
        "label_index": -1,
        "caption_index": -1,
    }
    write_index(tmp_path, config, pa.Table.from_pylist([entry], schema=INDEX_SCHEMA), captions=[], embeddings=torch.zeros(0, 2))
    with pytest.raises(BadDataError, match="outside"):
        LatentDataset.open(tmp_path)


@pytest.mark.parametrize(("label_index", "caption_index", "what"), [(2, -1, "label"), (-2, -1, "label"), (0, 5, "caption")])
def test_an_index_out_of_range_is_refused(tmp_path: Path, label_index: int, caption_index: int, what: str) -> None:
    write(tmp_path)
    config = LatentDataset.open(tmp_path).config
    entry = {
        "shard": shard_name(0),
        "row": 0,
        "sha256": "",
        "split": "train",
        "label_index": label_index,
        "caption_index": caption_index,
    }
    write_index(tmp_path, config, pa.Table.from_pylist([entry], schema=INDEX_SCHEMA), captions=[], embeddings=torch.zeros(0, 2))
    with pytest.raises(BadDataError, match=f"{what} index"):
        LatentDataset.open(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"latent_shape": [4, 1, 2]}, {"latent_shape": [4, 1, 2, "2"]}, {"labels": [1]}, {"extra": 1}, {"text_encoder": {}}],
)
def test_a_config_of_another_form_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    write(tmp_path)
    values = json.loads((tmp_path / CONFIG_NAME).read_text())
    (tmp_path / CONFIG_NAME).write_text(json.dumps({**values, **changes}))
    with pytest.raises(BadDataError, match=CONFIG_NAME):
        LatentDataset.open(tmp_path)


def test_latents_say_how_many_frames_they_code_where_these_are_more(tmp_path: Path) -> None:
    write(tmp_path)
    values = json.loads((tmp_path / CONFIG_NAME).read_text())
    assert "num_frames" not in values
    config = LatentsConfig.from_dict(values)
    assert config.frames == config.latent_shape[1]
    coded = LatentsConfig.from_dict({**values, "latent_shape": [4, 4, 2, 2], "num_frames": 13})
    assert (coded.frames, coded.to_dict()["num_frames"]) == (13, 13)
    for wrong in (0, 3, 13.0, "13", True):
        with pytest.raises(BadDataError, match="wrong type or size"):
            LatentsConfig.from_dict({**values, "latent_shape": [4, 4, 2, 2], "num_frames": wrong})


def test_embeddings_that_do_not_fit_the_captions_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    config = LatentDataset.open(tmp_path).config
    with pytest.raises(ValueError, match="captions"):
        write_index(tmp_path, config, INDEX_SCHEMA.empty_table(), captions=["one"], embeddings=torch.zeros(2, 2))
    (tmp_path / CAPTIONS_NAME).write_text('["one"]')
    with pytest.raises(BadDataError, match="does not fit"):
        LatentDataset.open(tmp_path)
