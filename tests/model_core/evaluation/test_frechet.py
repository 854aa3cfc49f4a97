import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from model_core.errors import BadDataError
from model_core.evaluation.frechet import fd_effnet_lite0, frechet_distance, frechet_of_features, frechet_of_moments
from model_core.evaluation.moments import Moments, stream_moments


def textbook(x, y):
    """The definition, with a general matrix square root."""
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(s_x + s_y - 2 * sqrtm(s_x @ s_y).real)


def test_distance_of_diagonal_gaussians_is_the_closed_form():
    mean_x, mean_y = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    deviation_x, deviation_y = np.array([1.0, 2.0, 0.5]), np.array([2.0, 0.5, 0.5])
    expected = ((mean_x - mean_y) ** 2).sum() + ((deviation_x - deviation_y) ** 2).sum()
    assert frechet_distance(mean_x, np.diag(deviation_x**2), mean_y, np.diag(deviation_y**2)) == pytest.approx(expected)


def test_distance_of_gaussians_that_differ_by_a_turn_is_the_closed_form():
    angle, (a, b) = 0.7, (4.0, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    s_x, s_y = np.diag([a, b]), turn @ np.diag([a, b]) @ turn.T
    trace_of_root = np.sqrt(np.trace(s_x @ s_y) + 2 * a * b)  # of any 2x2: tr(M^(1/2))^2 = tr M + 2 sqrt(det M)
    assert frechet_distance(np.zeros(2), s_x, np.zeros(2), s_y) == pytest.approx(2 * (a + b) - 2 * trace_of_root)


@pytest.mark.parametrize("dim", [2, 6, 40])
def test_distance_agrees_with_a_matrix_square_root(dim):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, dim, dim))
    s_x, s_y = a @ a.T + np.eye(dim), b @ b.T + np.eye(dim)
    expected = np.trace(s_x + s_y - 2 * sqrtm(s_x @ s_y).real)
    assert frechet_distance(np.zeros(dim), s_x, np.zeros(dim), s_y) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_distance_is_symmetric_and_never_negative(seed):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(12, 4)), generator.normal(size=(9, 4)) @ np.diag([3.0, 1.0, 0.1, 0.0])
    forth, back = frechet_of_features(x, y).value, frechet_of_features(y, x).value
    assert forth >= 0
    assert forth == pytest.approx(back, rel=1e-6, abs=1e-9)
    assert frechet_of_features(x, x).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("count", [10, 60])
def test_rounding_never_makes_a_distance_negative(count):
    generator = np.random.default_rng(3)
    for scale in np.geomspace(1e-3, 1e6, 20):
        x = generator.normal(size=(count, 20)) * scale
        distance = frechet_of_features(x, x.copy()).value
        assert 0 <= distance <= 1e-6 * 20 * scale**2


def test_distance_to_itself_is_zero_even_if_singular():
    low_rank = np.diag([1.0, 0.0, 0.0])
    assert frechet_distance(np.ones(3), low_rank, np.ones(3), low_rank) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(60, 50), (9, 50), (50, 9), (8, 8)])
def test_small_sets_give_what_the_definition_gives(n, m):
    generator = np.random.default_rng(n)
    x, y = generator.normal(size=(n, 20)), generator.normal(0.3, 2, size=(m, 20))
    found = frechet_of_features(x, y)
    assert found.value == pytest.approx(textbook(x, y), rel=1e-5)
    assert found.value == pytest.approx(frechet_of_moments(Moments.of(x), Moments.of(y)).value, rel=1e-6)
    assert found.is_biased == (min(n, m) < 20)


def test_streamed_moments_give_the_distance_of_all_pictures():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(90, 7)), generator.normal(1, 2, size=(80, 7))
    streamed = frechet_of_moments(stream_moments(np.split(x, [10, 11, 50])), stream_moments(np.split(y, 4)))
    assert streamed.value == pytest.approx(textbook(x, y))
    assert (streamed.num_x, streamed.num_y, streamed.dim) == (90, 80, 7)


def test_few_pictures_bias_the_distance_upwards():
    generator = np.random.default_rng(2)

    def drawn_alike(count):
        return frechet_of_features(generator.normal(size=(count, 30)), generator.normal(size=(count, 30))).value

    assert drawn_alike(20) > drawn_alike(200) > drawn_alike(2000)


def test_few_pictures_are_refused_on_either_side():
    many, few = np.random.default_rng(0).normal(size=(2000, 3)), np.ones((1999, 3))
    for x, y in ((many, few), (few, many)):
        with pytest.raises(BadDataError, match="at least 2000") as refused:
            fd_effnet_lite0(x, y)
        assert "KID" in refused.value.hint
    assert fd_effnet_lite0(many, many + np.array([1.0, 0.0, 2.0])) == pytest.approx(5.0)


@pytest.mark.parametrize(("x", "y"), [((1, 3), (5, 3)), ((5, 3), (0, 3)), ((5, 3), (5, 4)), ((5,), (5, 3))])
def test_sets_that_do_not_fit_are_refused(x, y):
    with pytest.raises(BadDataError, match="one dimension on either side"):
        frechet_of_features(np.ones(x), np.ones(y))


def test_what_is_not_finite_is_refused():
    bad = np.ones((4, 2))
    bad[1, 1] = np.nan
    with pytest.raises(BadDataError, match="finite"):
        frechet_of_features(bad, np.ones((4, 2)))
    with pytest.raises(BadDataError, match="finite"):
        frechet_distance(np.zeros(2), np.full((2, 2), np.inf), np.zeros(2), np.eye(2))


def test_gaussians_of_different_dimension_are_refused():
    with pytest.raises(BadDataError, match="one dimension"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
