import numpy as np
import pytest
from scipy.stats import bootstrap

from model_core.errors import BadDataError
from model_core.evaluation.kid import kernel_inception_distance, resampled_kid
from model_core.evaluation.resampling import joint_rows, resampled_means, row_weights


def test_weights_are_exponential_and_the_same_whatever_is_asked_beside_them():
    weights = row_weights(50, seed=3, num=2000)
    assert weights.shape == (2000, 50)
    assert weights.min() > 0
    assert weights.mean() == pytest.approx(1, abs=0.02)
    assert weights.var() == pytest.approx(1, abs=0.04)
    assert np.array_equal(weights, row_weights(50, seed=3, num=2000))
    assert np.array_equal(weights[:7], row_weights(50, seed=3, num=7))
    assert not np.allclose(weights, row_weights(50, seed=4, num=2000))
    # Reports of years ago must weigh alike: no version of numpy may change these.
    assert row_weights(2, seed=0, num=1).tolist() == [[pytest.approx(0.451046, abs=1e-6), pytest.approx(1.310124, abs=1e-6)]]


def test_samples_and_pictures_know_a_shared_row_by_the_same_number():
    of_samples, of_pictures, num_rows = joint_rows(np.array([70, 30, 70]), np.array([30, 50]), 2)
    assert (of_samples.tolist(), of_pictures.tolist(), num_rows) == ([2, 0, 2], [0, 1], 3)
    of_samples, of_pictures, num_rows = joint_rows(np.array([0, 4]), None, 3)
    assert (of_samples.tolist(), of_pictures.tolist(), num_rows) == ([0, 1], [2, 3, 4], 5)


def judged(generator, skill, hardness):
    """Which of a model's samples are right, three a row; what makes a row hard is shared by all models."""
    rows = np.repeat(np.arange(len(hardness)), 3)
    return rows, (generator.random(len(rows)) < np.clip(skill - hardness[rows], 0, 1)).astype(float)


def test_the_paired_difference_of_means_spreads_as_scipys_paired_bootstrap_says():
    generator = np.random.default_rng(5)
    hardness = generator.uniform(0, 0.6, 80)
    (rows, first), (_, second) = judged(generator, 0.9, hardness), judged(generator, 1.0, hardness)
    weights = row_weights(80, seed=0, num=4000)
    found = np.quantile(resampled_means(first, rows, weights) - resampled_means(second, rows, weights), [0.05, 0.95])
    by_row = [values.reshape(80, 3).mean(axis=1) for values in (first, second)]

    def difference(one, other, axis):
        return one.mean(axis=axis) - other.mean(axis=axis)

    expected = bootstrap(
        by_row, difference, paired=True, confidence_level=0.9, method="percentile", n_resamples=4000, rng=generator
    ).confidence_interval
    assert found == pytest.approx([expected.low, expected.high], abs=0.008)


def drawn(generator, num_rows, per_row, *, shift, scale):
    """Descriptions, real pictures of them, and the samples of two models: the second is not shifted, but less varied."""
    meaning = generator.normal(size=(num_rows, 3))
    rows = np.repeat(np.arange(num_rows), per_row)
    real = meaning + 0.5 * generator.normal(size=meaning.shape)
    seeds = generator.normal(size=(len(rows), 3))
    return rows, real, meaning[rows] + shift + 0.5 * seeds, scale * meaning[rows] + 0.3 * seeds


def test_replicates_of_kid_lie_around_it():
    rows, real, first, _ = drawn(np.random.default_rng(0), 30, 3, shift=0.4, scale=0.9)
    found = resampled_kid(first, real, rows_x=rows, rows_y=np.arange(30), weights=row_weights(30, seed=0, num=4000))
    value = kernel_inception_distance(first, real, seed=0, groups_x=rows).value
    assert abs(found.mean() - value) < 0.15 * found.std()


def test_equal_weights_give_kid_itself():
    rows, real, first, _ = drawn(np.random.default_rng(1), 20, 2, shift=0.4, scale=0.9)
    value = kernel_inception_distance(first, real, seed=0, groups_x=rows).value
    for rows_y in (np.arange(20), np.arange(20, 40), np.arange(10, 30)):
        found = resampled_kid(first, real, rows_x=rows, rows_y=rows_y, weights=np.ones((2, 40)), block_numbers=50)
        assert found == pytest.approx([value, value], rel=1e-9)


def test_a_replicate_of_kid_is_the_double_loop_over_weighted_pairs():
    rows, real, first, _ = drawn(np.random.default_rng(2), 6, 2, shift=0.4, scale=0.9)
    rows_y = np.arange(2, 8)  # two conditions have no picture, two pictures no condition
    weights = row_weights(8, seed=1, num=3)
    found = resampled_kid(first, real, rows_x=rows, rows_y=rows_y, weights=weights)

    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def mean(pairs):
        return sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)

    for w, replicate in zip(weights, found, strict=True):
        x, y = list(zip(rows, first, strict=True)), list(zip(rows_y, real, strict=True))
        apart = [[(w[i] * w[j], kernel(a, b)) for i, a in side for j, b in side if i != j] for side in (x, y)]
        between = [(w[i] if i == j else w[i] * w[j], kernel(a, b)) for i, a in x for j, b in y]
        assert replicate == pytest.approx(mean(apart[0]) + mean(apart[1]) - 2 * mean(between))


def test_the_paired_difference_of_kid_spreads_as_it_does_over_fresh_holdouts():
    generator = np.random.default_rng(3)
    differences, spreads, unpaired = [], [], []
    for _ in range(120):
        rows, real, *models = drawn(generator, 60, 2, shift=0.3, scale=0.9)
        kids = [kernel_inception_distance(x, real, seed=0, num_subsets=2, groups_x=rows).value for x in models]
        differences.append(kids[0] - kids[1])
        weights = row_weights(60, seed=0, num=200)
        first, second = (resampled_kid(x, real, rows_x=rows, rows_y=np.arange(60), weights=weights) for x in models)
        spreads.append((first - second).std())
        unpaired.append(np.hypot(first.std(), second.std()))
    assert np.mean(spreads) == pytest.approx(np.std(differences), rel=0.15)
    assert np.mean(unpaired) > 1.15 * np.mean(spreads)


def test_replicates_of_kid_need_two_rows():
    with pytest.raises(BadDataError, match="two rows"):
        resampled_kid(np.ones((3, 2)), np.ones((2, 2)), rows_x=np.zeros(3, int), rows_y=np.arange(2), weights=np.ones((5, 2)))
