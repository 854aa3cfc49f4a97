import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.errors import BadDataError
from model_core.evaluation.moments import Moments, stream_moments


def features(count, dim=5, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 2.0, size=(count, dim))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), cuts=st.lists(st.integers(0, 50), max_size=6))
def test_moments_do_not_depend_on_the_batches(seed, cuts):
    whole = features(50, seed=seed)
    streamed = stream_moments(np.split(whole, sorted(cuts)))
    assert streamed.count == 50
    np.testing.assert_allclose(streamed.mean, whole.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(streamed.covariance, np.cov(whole, rowvar=False), rtol=1e-11, atol=1e-12)


def test_one_picture_at_a_time_is_welfords_update():
    whole = features(30, seed=1)
    np.testing.assert_allclose(stream_moments(whole[:, None]).covariance, np.cov(whole, rowvar=False), rtol=1e-11)


def test_merging_is_symmetric():
    a, b = Moments.of(features(7, seed=2)), Moments.of(features(19, seed=3, shift=4.0))
    forth, back = a.merge(b), b.merge(a)
    np.testing.assert_allclose(forth.mean, back.mean, rtol=1e-12)
    np.testing.assert_allclose(forth.scatter, back.scatter, rtol=1e-12)


def test_a_large_offset_costs_no_digits():
    whole = features(400, seed=4) + 1e7  # a difference of sums of squares would lose every digit of the variance
    np.testing.assert_allclose(stream_moments(np.split(whole, 8)).covariance, np.cov(whole - 1e7, rowvar=False), rtol=1e-6)


def test_single_precision_features_are_summed_in_double():
    whole = features(100, seed=5).astype(np.float32)
    moments = stream_moments(np.split(whole, 4))
    assert moments.mean.dtype == moments.scatter.dtype == np.float64
    np.testing.assert_allclose(moments.covariance, np.cov(whole.astype(np.float64), rowvar=False), rtol=1e-11)


def test_nothing_is_refused():
    for batches in ([], [np.zeros((0, 3))]):
        with pytest.raises(BadDataError, match="no features"):
            stream_moments(batches)
    with pytest.raises(BadDataError, match="n dim"):
        Moments.of(np.zeros((0, 3)))


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(BadDataError, match="finite"):
        stream_moments([np.ones((2, 3)), np.array([[1.0, np.inf, 0.0]])])


def test_batches_of_different_dimension_are_refused():
    with pytest.raises(BadDataError, match="3 and of 4"):
        stream_moments([np.ones((2, 3)), np.ones((2, 4))])


def test_covariance_of_one_picture_is_refused():
    with pytest.raises(BadDataError, match="one picture"):
        _ = Moments.of(np.ones((1, 3))).covariance
