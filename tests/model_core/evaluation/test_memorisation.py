import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.memorisation import check_memorisation, distances


def pictures(count, seed):
    """Smooth random pictures with random 'features' that depend on the picture."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)


def features_of(images):
    projection = np.random.default_rng(42).normal(size=(images[0].size, 12))
    return np.maximum(images.reshape(len(images), -1) / 255.0 @ projection, 0)


def check(samples, train, holdout):
    return check_memorisation(
        sample_features=features_of(samples),
        train_features=features_of(train),
        holdout_features=features_of(holdout),
        sample_images=samples,
        train_images=train,
        holdout_images=holdout,
    )


def test_planted_copies_are_found_and_named():
    train, holdout, samples = pictures(200, 0), pictures(60, 1), pictures(40, 2)
    samples[5], samples[17] = train[33], train[150]
    result = check(samples, train, holdout)
    assert {5, 17} == set(result.worst(2).tolist())
    assert result.flagged[[5, 17]].all()
    assert result.features.samples.train_index[[5, 17]].tolist() == [33, 150]
    assert result.features.samples.ratio[5] < 1e-3


def test_nearly_exact_copies_are_found():
    train, holdout, samples = pictures(200, 0), pictures(60, 1), pictures(40, 2)
    samples[8] = np.clip(train[70].astype(int) + np.random.default_rng(0).integers(-6, 7, train[70].shape), 0, 255)
    assert check(samples, train, holdout).flagged[8]


def test_honest_samples_are_hardly_flagged():
    shares = []
    for seed in range(5):
        result = check(pictures(60, 10 + seed), pictures(150, 20 + seed), pictures(60, 30 + seed))
        shares.append(result.memorised_share)
        assert result.memorised_share_real <= 0.1
    assert np.mean(shares) <= 0.07


def test_duplicates_between_train_and_holdout_do_not_blind_the_check():
    train, holdout, samples = pictures(200, 0), pictures(60, 1), pictures(40, 2)
    holdout[0] = train[0]  # as two countries' flags may be
    samples[3] = train[9]
    assert check(samples, train, holdout).flagged[3]


def test_distances_are_euclidean():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert distances(x, y) == pytest.approx(np.linalg.norm(x[:, None] - y[None], axis=-1))


def test_too_few_pictures_are_refused():
    with pytest.raises(BadDataError, match="memorisation"):
        check(pictures(3, 0), pictures(3, 1), pictures(1, 2))
