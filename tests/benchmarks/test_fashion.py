import numpy as np
import pytest

from benchmarks.fashion import CLASSIFIER, Judge, Pictures, read_pictures, requested_labels
from model_core.errors import BadDataError
from model_core.evaluation.classifier import load_classifier
from tests.benchmarks.toy_fashion import SIDE, pictures, write_fashion, write_idx


@pytest.fixture
def judge(data, classifier):
    return Judge(load_classifier(classifier), read_pictures(data, "t10k"))


def test_reads_both_splits_gzipped_or_not(data):
    train, test = read_pictures(data, "train"), read_pictures(data, "t10k")
    assert train.images.shape == (120, SIDE, SIDE, 1)
    assert len(test) == 80
    assert np.array_equal(train.images[..., 0], pictures(120, seed=120)[0])
    assert train.digest != test.digest


def test_names_a_missing_folder_and_says_what_to_do(tmp_path):
    with pytest.raises(BadDataError, match="is no folder") as caught:
        read_pictures(tmp_path / "missing", "train")
    assert "--data" in caught.value.hint


def test_names_a_missing_file(tmp_path):
    with pytest.raises(BadDataError, match="lacks train-images-idx3-ubyte"):
        read_pictures(tmp_path, "train")


def test_refuses_labels_of_other_pictures(tmp_path):
    folder = write_fashion(tmp_path)
    write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(3, dtype=np.uint8))
    with pytest.raises(BadDataError, match="do not belong together"):
        read_pictures(folder, "t10k")


def test_refuses_a_damaged_file(tmp_path):
    folder = write_fashion(tmp_path)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadDataError, match="train-images"):
        read_pictures(folder, "train")


def test_reference_and_held_out_pictures_are_the_test_split_without_a_common_one(data, classifier):
    numbered = np.arange(80, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIDE, SIDE, 1), dtype=np.uint8)
    test = Pictures(images=numbered, labels=read_pictures(data, "t10k").labels)
    judge = Judge(load_classifier(classifier), test)
    reference, held_out = set(judge.reference.images[:, 0, 0, 0]), set(judge.held_out.images[:, 0, 0, 0])
    assert reference.isdisjoint(held_out)
    assert reference | held_out == set(range(80))


def test_the_reference_is_at_distance_zero_from_itself(judge):
    assert judge.judge(judge.reference).distance == pytest.approx(0, abs=1e-4)


def test_real_pictures_are_nearer_than_noise_and_have_their_labels(judge, data):
    bounds = judge.bounds(40, train=read_pictures(data, "train"))
    assert bounds["real"]["distance"] < bounds["noise"]["distance"]
    assert bounds["real"]["accuracy"] > 0.9 > bounds["noise"]["accuracy"]
    assert bounds["real"]["num_pictures"] == 40


def test_accuracy_is_the_share_of_the_labels_asked_for(judge):
    real = judge.held_out
    wrong = Pictures(images=real.images, labels=(real.labels + 1) % 10)
    assert judge.judge(real).accuracy > 0.9
    assert judge.judge(wrong).accuracy < 0.1


def test_refuses_a_classifier_of_other_pictures(data, classifier):
    large = Pictures(images=np.zeros((20, 28, 28, 1), np.uint8), labels=requested_labels(20))
    with pytest.raises(BadDataError, match="8x8"):
        Judge(load_classifier(classifier), large)


def test_refuses_to_judge_one_picture(judge):
    with pytest.raises(BadDataError, match="too few"):
        judge.judge(judge.held_out.rows(slice(1)))


def test_labels_are_asked_for_in_turn():
    assert requested_labels(12).tolist() == [*range(10), 0, 1]


def test_the_committed_classifier_is_what_its_card_says():
    import json

    card = json.loads((CLASSIFIER / "card.json").read_text(encoding="utf-8"))
    classifier = load_classifier(CLASSIFIER)
    assert classifier.digest == card["digest"]
    assert (classifier.config.height, classifier.config.width, classifier.config.num_classes) == (28, 28, 10)
    assert card["test_accuracy"] > 0.91
    assert sum(path.stat().st_size for path in CLASSIFIER.iterdir()) < 2_000_000
