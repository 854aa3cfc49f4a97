import numpy as np
import pytest
from scipy.linalg import sqrtm

from model_core.errors import BadDataError
from model_core.evaluation.frechet import fd_effnet_lite0, frechet_distance


def test_distance_of_diagonal_gaussians_is_the_closed_form():
    mean_x, mean_y = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    deviation_x, deviation_y = np.array([1.0, 2.0, 0.5]), np.array([2.0, 0.5, 0.5])
    expected = ((mean_x - mean_y) ** 2).sum() + ((deviation_x - deviation_y) ** 2).sum()
    assert frechet_distance(mean_x, np.diag(deviation_x**2), mean_y, np.diag(deviation_y**2)) == pytest.approx(expected)


def test_distance_agrees_with_a_matrix_square_root():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 6, 6))
    s_x, s_y = a @ a.T + np.eye(6), b @ b.T + np.eye(6)
    expected = np.trace(s_x + s_y - 2 * sqrtm(s_x @ s_y).real)
    assert frechet_distance(np.zeros(6), s_x, np.zeros(6), s_y) == pytest.approx(expected)


def test_distance_to_itself_is_zero_even_if_singular():
    low_rank = np.diag([1.0, 0.0, 0.0])
    assert frechet_distance(np.ones(3), low_rank, np.ones(3), low_rank) == pytest.approx(0, abs=1e-12)


def test_few_pictures_are_refused_on_either_side():
    many, few = np.random.default_rng(0).normal(size=(2000, 3)), np.ones((1999, 3))
    for x, y in ((many, few), (few, many)):
        with pytest.raises(BadDataError, match="at least 2000") as refused:
            fd_effnet_lite0(x, y)
        assert "KID" in refused.value.hint
    assert fd_effnet_lite0(many, many + np.array([1.0, 0.0, 2.0])) == pytest.approx(5.0)
