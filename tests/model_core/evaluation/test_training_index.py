"""The index of training items: what is a near-copy, what is not, and a file that gives back what was put in."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from model_core.errors import BadModelError
from model_core.evaluation.training_index import Items, TrainingIndex, thumbnails

SIDE = 32


def pictures(number, seed):
    """Smooth random pictures, one look each."""
    small = np.random.default_rng(seed).integers(0, 256, (number, 4, 4, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in small]
    return np.stack(large)[:, None]


def features(images):
    """Stand-in features: differences of pixels, which do not mind brightness."""
    flat = images[:, 0].astype(np.float32)
    return np.diff(flat, axis=2).reshape(len(images), -1)


def items(images):
    return Items.of(images, features(images))


def sha256(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


TRAIN, HOLDOUT = pictures(40, 0), pictures(12, 1)


@pytest.fixture(scope="module")
def index():
    return TrainingIndex.build(
        items(TRAIN), items(HOLDOUT), sha256=sha256(TRAIN), extractor="e" * 64, input_size=64, num_in_training=50
    )


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image[0]).save(buffer, "JPEG", quality=80)
    return np.asarray(Image.open(buffer).convert("RGB"))[None]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image, id="none"),
        pytest.param(lambda image: np.where(image < 255, image + 1, 254).astype(np.uint8), id="a level"),
        pytest.param(jpeg, id="jpeg"),
    ],
)
def test_a_changed_training_picture_is_a_near_copy_of_the_one_it_is(index, change):
    found = index.compare(items(np.stack([change(image) for image in TRAIN])))
    assert all(one.is_near_copy for one in found)
    assert [one.nearest_sha256 for one in found] == sha256(TRAIN)
    assert all(one.distance < one.distance_threshold and one.ratio < one.ratio_threshold for one in found)


def test_no_holdout_picture_is_a_near_copy_and_hardly_any_new_one(index):
    """New pictures are drawn as the holdout is, so that each is below its lowest with a chance of 1 in 13, in two spaces."""
    assert not any(one.is_near_copy for one in index.compare(items(HOLDOUT)))
    assert sum(one.is_near_copy for one in index.compare(items(pictures(200, 2)))) <= 200 * 2 / 13


def test_what_is_read_compares_as_what_was_written_and_is_the_same_file(index, tmp_path):
    index.save(tmp_path / "one")
    read = TrainingIndex.load(tmp_path / "one")
    read.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    new = items(pictures(5, 3))
    assert read.compare(new) == index.compare(new)
    assert (read.num_in_training, read.input_size, read.extractor) == (50, 64, "e" * 64)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"\x02\0\0\0\0\0\0\0{}"])
def test_another_file_is_no_index(content, tmp_path):
    (tmp_path / "index").write_bytes(content)
    with pytest.raises(BadModelError, match="no index of training items"):
        TrainingIndex.load(tmp_path / "index")


def test_thumbnails_are_means_of_what_they_cover():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, 2 * SIDE, 3), dtype=np.uint8)
    expected = frames.reshape(2, 3, 16, 2, 16, 4, 3).mean(axis=(3, 5))
    assert np.abs(thumbnails(frames) - expected).max() <= 0.5


def test_samples_of_other_lengths_are_refused(index):
    with pytest.raises(BadModelError, match="different numbers of frames"):
        index.compare(Items.of(np.repeat(TRAIN, 4, axis=1), features(TRAIN)))
