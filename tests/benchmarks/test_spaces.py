import numpy as np
import pytest
import torch

from benchmarks.fashion import read_pictures
from benchmarks.spaces import from_pixels, open_space, to_pixels, write_latents
from model_core.codec.autoencoder import build_codec
from model_core.codec.config import CodecConfig
from model_core.codec.io import save_codec
from model_core.data.importers.fashion_mnist import LABELS
from model_core.errors import BadDataError


@pytest.fixture
def train(data):
    return read_pictures(data, "train")


@pytest.fixture
def codec(tmp_path):
    folder = tmp_path / "codec"
    folder.mkdir()
    config = CodecConfig(
        latent_channels=2,
        encoder_widths=(8, 8, 8),
        encoder_blocks=(0, 0, 0),
        decoder_widths=(8, 8, 8),
        decoder_blocks=(0, 0, 0),
    )
    save_codec(build_codec(config, seed=0), folder)
    return folder


def test_pixels_come_back_exactly():
    every_value = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    latents = to_pixels(every_value)
    assert latents.shape == (1, 1, 1, 16, 16)
    assert (float(latents.min()), float(latents.max())) == (-1.0, 1.0)
    assert np.array_equal(from_pixels(latents), every_value)


def test_pixels_beyond_the_range_are_clamped():
    assert from_pixels(torch.tensor([-5.0, 5.0]).view(2, 1, 1, 1, 1)).ravel().tolist() == [0, 255]


def test_the_linear_codec_keeps_most_of_a_picture(train):
    space = open_space("patch-pca", train)
    latents = space.encode(train.images[:20])
    assert latents.shape == (20, 4, 1, 2, 2)
    assert 0.3 < float(latents.std()) < 3
    error = space.decode(latents).astype(float) - train.images[:20]
    assert np.square(error).mean() < 0.5 * np.square(train.images[:20] - train.images[:20].mean()).mean()


def test_a_codec_frames_pictures_that_it_does_not_divide_and_cuts_the_frame_off(train, codec):
    space = open_space("codec", train, codec=codec)
    odd = np.pad(train.images[:3], ((0, 0), (0, 2), (0, 2), (0, 0)))
    framed = open_space("codec", type(train)(images=odd, labels=train.labels[:3]), codec=codec)
    assert space.encode(train.images[:3]).shape == (3, 2, 1, 2, 2)
    assert space.decode(space.encode(train.images[:3])).shape == train.images[:3].shape
    assert framed.decode(framed.encode(odd)).shape == odd.shape


def test_a_codec_has_to_be_named(train):
    with pytest.raises(BadDataError, match="needs a trained codec") as caught:
        open_space("codec", train)
    assert "--codec" in caught.value.hint


def test_latents_are_written_once_and_opened_again(train, tmp_path):
    space = open_space("pixels", train)
    written = write_latents(space, train, tmp_path / "latents")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").rglob("*")}
    opened = write_latents(space, train, tmp_path / "latents")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").rglob("*")} == before
    assert torch.equal(opened.latents([3, 119]), to_pixels(train.images[[3, 119]]))
    assert written.rows("train") == list(range(120))
    assert opened.label_indices([3]).tolist() == [int(train.labels[3])]
    assert opened.config.labels == LABELS


def test_latents_of_other_pictures_are_made_anew(train, tmp_path):
    space = open_space("pixels", train)
    write_latents(space, train, tmp_path / "latents")
    half = train.rows(slice(60))
    assert len(write_latents(space, half, tmp_path / "latents")) == 60
