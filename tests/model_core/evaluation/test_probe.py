import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.probe import chance_accuracy, confusion_counts, train_probe


def clusters(num_items, num_labels, seed, *, distance=3.0, dim=20):
    centres = np.random.default_rng(99).normal(size=(num_labels, dim)) * distance
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_labels, num_items)
    return centres[labels] + generator.normal(size=(num_items, dim)), labels


@pytest.mark.parametrize("num_labels", [2, 4])
def test_probe_tells_clusters_apart(num_labels):
    probe = train_probe(*clusters(200, num_labels, 0))
    features, labels = clusters(200, num_labels, 1)
    assert (probe.predict(features) == labels).mean() > 0.98


def test_probe_trained_on_shuffled_labels_is_at_chance():
    accuracies = []
    for seed in range(10):
        features, labels = clusters(200, 4, seed)
        probe = train_probe(features, np.random.default_rng(seed).permutation(labels))
        test_features, test_labels = clusters(200, 4, seed + 100)
        accuracies.append((probe.predict(test_features) == test_labels).mean())
    assert np.mean(accuracies) == pytest.approx(0.25, abs=0.08)


def test_probe_answers_with_label_indices_as_given():
    features, labels = clusters(100, 3, 0)
    names = np.array([2, 5, 9])
    assert set(train_probe(features, names[labels]).predict(features)) == {2, 5, 9}


def test_constant_features_do_no_harm():
    features, labels = clusters(100, 2, 0)
    assert np.isfinite(train_probe(np.hstack([features, np.ones((100, 3))]), labels).weight).all()


def test_one_label_is_refused():
    with pytest.raises(BadDataError, match="at least two labels"):
        train_probe(np.ones((5, 3)), np.zeros(5, dtype=int))


def test_chance_is_the_share_of_the_commonest_label():
    assert chance_accuracy(np.array([0, 0, 0, 1])) == 0.75


def test_confusion_counts_asked_by_judged():
    counts = confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), num_labels=2)
    assert counts.tolist() == [[1, 1], [0, 1]]
