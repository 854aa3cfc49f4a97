import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.kid import kernel_inception_distance


def naive_kid(x, y):
    """The definition, as a double loop."""

    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(kernel(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


@pytest.mark.parametrize(("n", "m"), [(4, 4), (9, 13), (13, 5)])
def test_kid_is_the_double_loop(n, m):
    generator = np.random.default_rng(n)
    x, y = generator.normal(size=(n, 7)), generator.normal(0.5, 1, size=(m, 7))
    assert kernel_inception_distance(x, y, seed=0).value == pytest.approx(naive_kid(x, y), rel=1e-10, abs=1e-12)


def test_kid_of_sets_drawn_alike_is_zero_on_average():
    generator = np.random.default_rng(1)
    values = [
        kernel_inception_distance(generator.normal(size=(30, 5)), generator.normal(size=(20, 5)), seed=0, num_subsets=2).value
        for _ in range(400)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_kid_interval_covers_the_true_distance():
    generator = np.random.default_rng(2)
    truth = kernel_inception_distance(
        generator.normal(size=(4000, 4)), generator.normal(0.6, 1, size=(4000, 4)), seed=0, num_subsets=1
    ).value
    covered = 0
    for _ in range(100):
        found = kernel_inception_distance(generator.normal(size=(60, 4)), generator.normal(0.6, 1, size=(60, 4)), seed=0)
        covered += found.low <= truth <= found.high
    assert covered >= 86


def test_kid_grows_with_the_shift():
    generator = np.random.default_rng(3)
    real = generator.normal(size=(80, 6))
    kids = [kernel_inception_distance(generator.normal(shift, 1, size=(80, 6)), real, seed=0).value for shift in (0.0, 0.5, 1.0)]
    assert kids == sorted(kids)


def test_kid_is_repeatable():
    generator = np.random.default_rng(4)
    x, y = generator.normal(size=(20, 5)), generator.normal(size=(20, 5))
    assert kernel_inception_distance(x, y, seed=7) == kernel_inception_distance(x, y, seed=7)


def test_kid_refuses_too_few_and_non_finite():
    with pytest.raises(BadDataError, match="at least 4"):
        kernel_inception_distance(np.ones((3, 2)), np.ones((9, 2)), seed=0)
    with pytest.raises(BadDataError, match="finite"):
        kernel_inception_distance(np.full((5, 2), np.nan), np.ones((9, 2)), seed=0)


@pytest.mark.parametrize("block_numbers", [1, 40, 10**6])
def test_blocks_do_not_change_kid(block_numbers):
    generator = np.random.default_rng(5)
    x, y = generator.normal(size=(11, 5)), generator.normal(1, 1, size=(14, 5))
    found = kernel_inception_distance(x, y, seed=0, block_numbers=block_numbers)
    assert found.value == pytest.approx(naive_kid(x, y))
    whole = kernel_inception_distance(x, y, seed=0)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high))


def clips(generator, count, frames=4, dim=3):
    """Frames that resemble each other within a clip."""
    centres = generator.normal(size=(count, 1, dim))
    return (centres + 0.1 * generator.normal(size=(count, frames, dim))).reshape(-1, dim), np.repeat(np.arange(count), frames)


def test_groups_leave_out_pairs_within_a_clip():
    generator = np.random.default_rng(6)
    (x, groups_x), (y, groups_y) = clips(generator, 5), clips(generator, 6)

    def mean(a, b, allowed):
        return np.mean([(float(a[i] @ b[j]) / 3 + 1) ** 3 for i in range(len(a)) for j in range(len(b)) if allowed(i, j)])

    expected = (
        mean(x, x, lambda i, j: groups_x[i] != groups_x[j])
        + mean(y, y, lambda i, j: groups_y[i] != groups_y[j])
        - 2 * mean(x, y, lambda _, __: True)
    )
    shuffled = generator.permutation(len(x))
    found = kernel_inception_distance(x[shuffled], y, seed=0, groups_x=groups_x[shuffled] * 10 + 3, groups_y=groups_y)
    assert found.value == pytest.approx(expected)


def test_kid_of_clips_drawn_alike_is_zero_on_average_only_with_groups():
    generator = np.random.default_rng(8)
    grouped, plain = [], []
    for _ in range(400):
        (x, groups_x), (y, groups_y) = clips(generator, 8), clips(generator, 8)
        grouped.append(kernel_inception_distance(x, y, seed=0, num_subsets=2, groups_x=groups_x, groups_y=groups_y).value)
        plain.append(kernel_inception_distance(x, y, seed=0, num_subsets=2).value)
    error = np.std(grouped) / np.sqrt(len(grouped))
    assert abs(np.mean(grouped)) < 3 * error
    assert np.mean(plain) > 10 * error


def test_kid_refuses_sets_and_groups_that_do_not_fit():
    with pytest.raises(BadDataError, match="one dimension"):
        kernel_inception_distance(np.ones((9, 2)), np.ones((9, 3)), seed=0)
    with pytest.raises(BadDataError, match="groups"):
        kernel_inception_distance(np.ones((9, 2)), np.ones((9, 2)), seed=0, groups_x=np.arange(8))
    with pytest.raises(BadDataError, match="at least 4 groups"):
        kernel_inception_distance(np.ones((9, 2)), np.ones((9, 2)), seed=0, groups_x=np.arange(9) // 3)
