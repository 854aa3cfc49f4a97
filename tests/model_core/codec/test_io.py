import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_core.codec.io import CONFIG_NAME, WEIGHTS_NAME, load_codec, save_codec
from model_core.errors import BadModelError
from tests.model_core.codec.small import pictures, small_codec, small_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_codec(small_codec(latent_mean=(0.5,) * 4, latent_std=(2.0,) * 4), tmp_path)
    return tmp_path


def test_a_codec_comes_back_as_it_was(folder: Path) -> None:
    codec, pixels = load_codec(folder), pictures(2, 16).unsqueeze(2)
    original = small_codec(latent_mean=(0.5,) * 4, latent_std=(2.0,) * 4)
    assert codec.config == original.config
    assert torch.equal(codec.encode(pixels), original.encode(pixels))
    assert not codec.training
    assert not any(parameter.requires_grad for parameter in codec.parameters())


def test_the_same_codec_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    save_codec(load_codec(folder), tmp_path / "again")
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadModelError, match=name):
        load_codec(folder)


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", b"PK\x03\x04 a pickled archive", b"\xff" * 64])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS_NAME).write_bytes(content)
    with pytest.raises(BadModelError, match=WEIGHTS_NAME):
        load_codec(folder)


@pytest.mark.parametrize("num_missing", [1, 1000])
def test_truncated_weights_are_refused(folder: Path, num_missing: int) -> None:
    path = folder / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-num_missing])
    with pytest.raises(BadModelError, match="safetensors"):
        load_codec(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": "groundswell-codec/1"}', "\udcff"])
def test_a_config_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / CONFIG_NAME).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadModelError):
        load_codec(folder)


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    (folder / CONFIG_NAME).write_text(json.dumps(small_config(decoder_widths=(4, 8, 16)).to_dict()))
    with pytest.raises(BadModelError, match="expected"):
        load_codec(folder)
    (folder / CONFIG_NAME).write_text(json.dumps(small_config(decoder_blocks=(0, 1, 2)).to_dict()))
    with pytest.raises(BadModelError, match="missing or unknown"):
        load_codec(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    tensors["decoder.out.bias"][0] = float("nan")
    save_file(tensors, folder / WEIGHTS_NAME)
    with pytest.raises(BadModelError, match=r"decoder\.out\.bias"):
        load_codec(folder)


@pytest.mark.parametrize("architecture", ["vq", None, 1, ["compact"]])
def test_an_unknown_architecture_is_refused(folder: Path, architecture: object) -> None:
    values = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**values, "architecture": architecture}))
    with pytest.raises(BadModelError, match="architecture"):
        load_codec(folder)


def test_numbers_too_large_for_a_float_are_refused(folder: Path) -> None:
    values = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**values, "latent_mean": [10**400] * 4}))
    with pytest.raises(BadModelError, match="latent_mean"):
        load_codec(folder)


def test_a_pickle_named_safetensors_is_refused(folder: Path) -> None:
    torch.save(small_codec().state_dict(), folder / WEIGHTS_NAME)
    with pytest.raises(BadModelError, match="safetensors"):
        load_codec(folder)
