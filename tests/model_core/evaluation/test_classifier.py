import json

import numpy as np
import pytest

from model_core.errors import BadDataError, BadModelError, TrainingDivergedError
from model_core.evaluation.classifier import FEATURE_DIM, accuracy, load_classifier, save_classifier, train_classifier


def bars(count, seed, *, size=12, channels=1):
    """Pictures of a bar, lying (0) or standing (1) at a random place, in noise."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 80, (count, size, size, channels), dtype=np.uint8)
    labels = generator.integers(0, 2, count)
    for image, label, place in zip(images, labels, generator.integers(1, size - 2, count), strict=True):
        if label:
            image[:, place : place + 2] = 230
        else:
            image[place : place + 2] = 230
    return images, labels


def train(seed=0, num_steps=25, **options):
    images, labels = bars(128, 0)
    return train_classifier(images, labels, num_classes=2, seed=seed, num_steps=num_steps, batch_size=32, **options)


@pytest.fixture(scope="module")
def classifier():
    return train()


def test_classifier_learns_what_generalises(classifier):
    images, labels = bars(100, 1)
    assert accuracy(classifier.predict(images), labels) >= 0.95


def test_features_tell_the_classes_apart(classifier):
    images, labels = bars(60, 2)
    features = classifier.features(images)
    assert features.shape == (60, FEATURE_DIM)
    centres = np.stack([features[labels == label].mean(axis=0) for label in (0, 1)])
    nearest = np.linalg.norm(features[:, None] - centres, axis=-1).argmin(axis=1)
    assert accuracy(nearest, labels) >= 0.9


def test_prediction_is_the_head_on_the_features(classifier):
    images, _ = bars(9, 3)
    logits = classifier.features(images) @ classifier.head.weight.numpy().T + classifier.head.bias.numpy()
    np.testing.assert_array_equal(classifier.predict(images), logits.argmax(axis=1))


def test_training_is_repeatable_and_depends_on_the_seed(classifier):
    assert train().digest == classifier.digest
    assert train(seed=1, num_steps=2).digest != train(num_steps=2).digest


def test_saved_classifier_says_the_same(classifier, tmp_path):
    save_classifier(classifier, tmp_path / "a")
    loaded = load_classifier(tmp_path / "a")
    images, _ = bars(7, 4)
    np.testing.assert_array_equal(loaded.features(images), classifier.features(images))
    assert loaded.config == classifier.config
    save_classifier(loaded, tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"config.json", "classifier.safetensors"}
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_any_flipped_weight_is_found(classifier, tmp_path):
    save_classifier(classifier, tmp_path)
    path = tmp_path / "classifier.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadModelError, match="digest differs"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04}q\x00.", b"[1]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "classifier.safetensors"])
def test_unreadable_files_are_refused(classifier, tmp_path, name, content):
    save_classifier(classifier, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadModelError, match="classifier"):
        load_classifier(tmp_path)


def test_tensors_of_another_shape_are_refused(classifier, tmp_path):
    save_classifier(classifier, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_classes": 3}))
    with pytest.raises(BadModelError, match="does not fit"):
        load_classifier(tmp_path)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(BadModelError, match="no classifier"):
        load_classifier(tmp_path / "nowhere")


def test_colour_pictures_of_32_pixels_are_taken():
    images, labels = bars(16, 5, size=32, channels=3)
    classifier = train_classifier(images, labels, num_classes=2, seed=0, num_steps=2, batch_size=8)
    assert classifier.predict(images).shape == (16,)
    assert classifier.features(images[:0]).shape == (0, FEATURE_DIM)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((0, 12, 12, 1), np.uint8), np.zeros(0, np.int64)),
        (np.zeros((4, 12, 12, 1), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((4, 12, 12, 1), np.uint8), np.array([0, 1, 2, 0])),
        (np.zeros((4, 12, 12, 1), np.uint8), np.array([0, 1, -1, 0])),
        (np.zeros((4, 4, 4, 1), np.uint8), np.array([0, 1, 1, 0])),
        (np.zeros((4, 128, 12, 1), np.uint8), np.array([0, 1, 1, 0])),
    ],
)
def test_unusable_training_pictures_are_refused(images, labels):
    with pytest.raises(BadDataError):
        train_classifier(images, labels, num_classes=2, seed=0, num_steps=1)


@pytest.mark.parametrize("options", [{"num_classes": 1}, {"num_steps": 0}, {"batch_size": 1}])
def test_senseless_training_is_refused(options):
    images, labels = bars(8, 0)
    with pytest.raises(BadDataError, match="at least"):
        train_classifier(images, labels, **({"num_classes": 2, "seed": 0, "num_steps": 1} | options))


def test_divergence_is_named():
    with pytest.raises(TrainingDivergedError, match="step"):
        train(learning_rate=1e30)


def test_pictures_of_another_size_are_refused(classifier):
    with pytest.raises(BadDataError, match="12 12 1"):
        classifier.predict(np.zeros((2, 28, 28, 1), np.uint8))


def test_accuracy_needs_one_prediction_a_label():
    assert accuracy(np.array([1, 0, 1, 1]), np.array([1, 1, 1, 1])) == 0.75
    with pytest.raises(BadDataError):
        accuracy(np.zeros(2, np.int64), np.zeros(3, np.int64))
    with pytest.raises(BadDataError):
        accuracy(np.zeros(0, np.int64), np.zeros(0, np.int64))
