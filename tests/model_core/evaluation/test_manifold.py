import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.errors import BadDataError
from model_core.evaluation.manifold import manifold_scores, squared_radii


def brute_force(samples, real, k, k_density):
    """The definitions, ball by ball."""

    def distance(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(members, index, neighbours):
        return sorted(distance(members[index], other) for place, other in enumerate(members) if place != index)[neighbours - 1]

    real_radii = [radius(real, i, k) for i in range(len(real))]
    sample_radii = [radius(samples, j, k) for j in range(len(samples))]
    density_radii = [radius(real, i, k_density) for i in range(len(real))]
    precision = np.mean([any(distance(s, r) <= real_radii[i] for i, r in enumerate(real)) for s in samples])
    recall = np.mean([any(distance(s, r) <= sample_radii[j] for j, s in enumerate(samples)) for r in real])
    density = sum(distance(s, r) < density_radii[i] for s in samples for i, r in enumerate(real)) / (k_density * len(samples))
    coverage = np.mean([any(distance(s, r) < density_radii[i] for s in samples) for i, r in enumerate(real)])
    return precision, recall, density, coverage


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize(("n", "m", "k", "k_density"), [(20, 30, 3, 5), (25, 12, 1, 2), (9, 9, 5, 3)])
def test_scores_are_the_definition(n, m, k, k_density, block):
    generator = np.random.default_rng(n)
    samples, real = generator.normal(0.6, 1.2, size=(n, 4)), generator.normal(size=(m, 4))
    found = manifold_scores(samples, real, precision_neighbours=k, density_neighbours=k_density, block=block)
    expected = brute_force(samples, real, k, k_density)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)
    assert 0 < found.precision < 1 or 0 < found.recall < 1  # a case that says something


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), offset=st.sampled_from([0.0, 100.0, 1e4]))
def test_equal_sets_score_one(seed, offset):
    features = np.random.default_rng(seed).normal(offset, 1, size=(25, 6))
    found = manifold_scores(features[::-1].copy(), features, block=8)
    assert (found.precision, found.recall, found.density, found.coverage) == (1.0, 1.0, 1.0, 1.0)


def test_sets_far_apart_score_zero():
    generator = np.random.default_rng(0)
    found = manifold_scores(generator.normal(size=(30, 6)), generator.normal(100, 1, size=(30, 6)))
    assert (found.precision, found.recall, found.density, found.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_scores_do_not_change_when_features_are_shifted():
    generator = np.random.default_rng(1)
    samples, real = generator.normal(0.5, 1, size=(40, 5)), generator.normal(size=(40, 5))
    assert manifold_scores(samples + 1e3, real + 1e3) == manifold_scores(samples, real)


def test_a_model_that_repeats_itself_keeps_precision_and_loses_recall():
    generator = np.random.default_rng(2)
    real, centre = generator.normal(size=(200, 4)), generator.normal(0, 0.05, size=(200, 4))
    found = manifold_scores(centre, real)
    assert found.precision > 0.95
    assert found.recall < 0.1
    assert found.coverage < 0.5


def test_a_model_that_also_draws_nonsense_loses_precision_and_keeps_recall():
    generator = np.random.default_rng(3)
    real = generator.normal(size=(150, 4))
    half = np.concatenate([generator.normal(size=(150, 4)), generator.normal(50, 1, size=(150, 4))])
    found = manifold_scores(half, real)
    assert 0.4 < found.precision < 0.55
    assert found.recall > 0.85


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_recall_is_precision_with_the_sides_changed(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.normal(0.8, 1, size=(20, 3)), generator.normal(size=(30, 3))
    forth, back = manifold_scores(a, b), manifold_scores(b, a)
    assert (forth.precision, forth.recall) == (back.recall, back.precision)


def test_copies_of_one_picture_have_radius_zero_and_are_still_inside():
    features = np.repeat(np.random.default_rng(4).normal(size=(1, 5)), 8, axis=0)
    assert squared_radii(features - features[0], neighbours=(1, 3)).max() == 0
    found = manifold_scores(features, features)
    assert (found.precision, found.recall) == (1.0, 1.0)


@pytest.mark.parametrize(("n", "m"), [(5, 30), (30, 5), (0, 30)])
def test_too_few_pictures_are_refused(n, m):
    with pytest.raises(BadDataError, match="at least 6"):
        manifold_scores(np.ones((n, 2)), np.ones((m, 2)))


def test_features_that_do_not_fit_or_are_not_finite_are_refused():
    with pytest.raises(BadDataError, match="one dimension"):
        manifold_scores(np.ones((9, 2)), np.ones((9, 3)))
    with pytest.raises(BadDataError, match="finite"):
        manifold_scores(np.full((9, 2), np.inf), np.ones((9, 2)))
