"""Utility: what a probe learns from samples, held against worlds in which the answer is known."""

import numpy as np
import pytest

from model_core.evaluation.assessment import PictureSet
from model_core.evaluation.probe import train_probe
from model_core.evaluation.utility import NUM_FOLDS, measure_utility

NUM_LABELS, DIM, SPREAD = 3, 12, 1.1
CENTRES = np.eye(NUM_LABELS, DIM) * 2


def items(number, seed, *, conditions=None, labels=None, spread=SPREAD):
    """Items of a mixture of gaussians, one a label."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, NUM_LABELS, number) if labels is None else labels
    features = (CENTRES[labels] + spread * generator.normal(size=(number, DIM))).astype(np.float32)
    return PictureSet(
        images=np.zeros((number, 2, 2, 3), np.uint8),
        features=features,
        labels=labels,
        captions=[""] * number,
        names=[str(index) for index in range(number)],
        conditions=np.arange(number) if conditions is None else conditions,
    )


def world(seed, *, num_holdout=80, num_samples=160, num_train=300):
    """Training items, held-out items, and samples for the held-out ones' labels, as good as real ones."""
    holdout = items(num_holdout, 3 * seed)
    turn = np.arange(num_samples) % num_holdout
    samples = items(num_samples, 3 * seed + 1, conditions=turn, labels=holdout.labels[turn])
    return samples, items(num_train, 3 * seed + 2), holdout


def measure(samples, train, holdout, seed=0):
    return measure_utility(samples, train, holdout, seed=seed, num_resamples=400)


def test_samples_of_the_real_distribution_are_worth_as_much_as_real_items():
    found = [measure(*world(seed)) for seed in range(5)]
    assert sum(one.ratio.low <= 1 <= one.ratio.high for one in found) >= 4
    assert np.mean([one.ratio.value for one in found]) == pytest.approx(1, abs=0.05)
    assert all(one.ratio.low < one.ratio.value < one.ratio.high for one in found)


def test_the_ceiling_is_what_the_best_possible_rule_reaches_almost():
    """Bayes' rule for equal gaussians is the nearest centre; its accuracy is counted on a hundred thousand fresh items."""
    fresh = items(100_000, 99)
    nearest = np.argmin(((fresh.features[:, None] - CENTRES[None]) ** 2).sum(axis=2), axis=1)
    best = (nearest == fresh.labels).mean()
    found = measure(*world(0, num_holdout=400, num_samples=800, num_train=1000))
    assert found.trtr.value == pytest.approx(best, abs=0.05)
    assert found.trts.value == pytest.approx(best, abs=0.05)


def test_samples_whose_labels_are_shuffled_teach_nothing():
    samples, train, holdout = world(1)
    shuffled = np.random.default_rng(0).permutation(samples.labels)
    mixed = items(len(samples), 5, conditions=samples.conditions, labels=samples.labels)
    samples = PictureSet(**{**vars(mixed), "labels": shuffled})
    found = measure(samples, train, holdout)
    assert found.tstr.value == pytest.approx(1 / NUM_LABELS, abs=0.15)
    assert found.ratio.high < 0.8
    assert found.trtr.value > 0.6


def test_a_mode_that_samples_lack_is_missed():
    samples, train, holdout = world(2, num_holdout=240, num_samples=240)
    dropped = samples.labels == 0
    features = samples.features.copy()
    features[dropped] = items(int(dropped.sum()), 7, labels=np.full(int(dropped.sum()), 1)).features
    whole = measure(samples, train, holdout)
    lacking = measure(PictureSet(**{**vars(samples), "features": features}), train, holdout)
    assert lacking.ratio.high < whole.ratio.value
    assert lacking.tstr.value < whole.tstr.value - 0.15
    assert lacking.trtr.value == whole.trtr.value, "the ceiling knows nothing of samples"


def test_samples_that_repeat_one_picture_of_each_held_out_item_are_not_tested_on_it():
    """Features that say nothing of the label but name the item: whoever had seen its samples would score 100 %."""
    generator = np.random.default_rng(3)
    holdout = items(60, 0, spread=1)
    names = generator.normal(size=(60, DIM)).astype(np.float32) * 9
    holdout = PictureSet(**{**vars(holdout), "features": names})
    turn = np.arange(240) % 60
    samples = PictureSet(**{**vars(items(240, 1, conditions=turn, labels=holdout.labels[turn])), "features": names[turn]})
    seen = train_probe(samples.features, samples.labels)
    assert (seen.predict(holdout.features) == holdout.labels).mean() > 0.5
    assert measure(samples, items(200, 2), holdout).tstr.value < 0.5


def test_both_probes_learn_from_as_many_items():
    samples, train, holdout = world(0, num_samples=160, num_train=30)
    assert measure(samples, train, holdout).num_learnt_from == 30
    samples, train, holdout = world(0, num_samples=80, num_train=300)
    assert measure(samples, train, holdout).num_learnt_from == 80 - 80 // NUM_FOLDS


def test_more_held_out_items_make_the_interval_narrower():
    widths = []
    for number in (40, 320):
        found = measure(*world(4, num_holdout=number, num_samples=max(number, 80)))
        widths.append(found.ratio.high - found.ratio.low)
    assert widths[1] < widths[0] / 1.5


def test_the_same_seed_gives_the_same_figures_and_items_without_a_label_count_for_nothing():
    samples, train, holdout = world(5)
    unlabelled = PictureSet(**{**vars(train), "labels": np.full(len(train), -1)})
    both = PictureSet(
        images=np.concatenate([train.images, train.images]),
        features=np.concatenate([train.features, unlabelled.features]),
        labels=np.concatenate([train.labels, unlabelled.labels]),
        captions=[""] * 2 * len(train),
        names=[""] * 2 * len(train),
    )
    assert measure(samples, train, holdout).metrics() == measure(samples, both, holdout).metrics()
    assert measure(samples, unlabelled, holdout) is None


def test_every_figure_stands_with_its_interval():
    found = measure(*world(6))
    metrics = found.metrics()
    for name in ("ratio", "tstr", "trts", "trtr"):
        assert metrics[f"utility_{name}_low"] <= metrics[f"utility_{name}"] <= metrics[f"utility_{name}_high"]
        assert found.document()[name]["value"] == metrics[f"utility_{name}"]
    assert metrics["utility_tstr_chance"] < metrics["utility_trtr"]
