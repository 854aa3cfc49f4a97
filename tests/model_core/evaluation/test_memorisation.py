import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.memorisation import check_memorisation


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


def test_a_model_that_copies_is_told_from_one_that_draws_anew():
    train, holdout = pictures(300, 0), pictures(100, 1)
    noise = np.random.default_rng(3).integers(-4, 5, (50, *train.shape[1:]))
    copies = np.clip(train[:50].astype(int) + noise, 0, 255).astype(np.uint8)
    copied, fresh = check(copies, train, holdout), check(pictures(50, 2), train, holdout)
    assert copied.memorised_share == 1.0
    assert copied.ratio_median < 0.2
    assert copied.pixels.samples.train_index.tolist() == list(range(50))
    assert fresh.memorised_share <= 0.1
    assert fresh.ratio_median == pytest.approx(1.0, abs=0.2)
    assert copied.memorised_share_real == fresh.memorised_share_real <= 0.1
    assert copied.ratio_median_real == fresh.ratio_median_real == pytest.approx(fresh.ratio_median, abs=0.1)


def test_more_training_than_holdout_pictures_lower_the_ratio_of_honest_samples_and_of_real_pictures_alike():
    results = [check(pictures(60, 10 + seed), pictures(600, 20 + seed), pictures(60, 30 + seed)) for seed in range(5)]
    real = np.mean([result.ratio_median_real for result in results])
    assert real < 0.8
    assert np.mean([result.ratio_median for result in results]) == pytest.approx(real, abs=0.1)


def test_a_holdout_picture_is_not_its_own_neighbour():
    holdout = pictures(30, 1)
    result = check(holdout, pictures(100, 0), holdout)
    assert result.features.samples.holdout_distance.max() < 1e-6  # a sample has no self among the holdout
    assert result.features.ratio_threshold < 10  # the calibration looked at other holdout pictures


def test_evidence_is_the_space_that_accuses():
    train, holdout, samples = pictures(200, 0), pictures(60, 1), pictures(40, 2)
    samples[5] = train[33]
    features = features_of(samples)
    features[5] = features_of(pictures(1, 99))[0]  # a copy that only pixels give away
    result = check_memorisation(
        sample_features=features,
        train_features=features_of(train),
        holdout_features=features_of(holdout),
        sample_images=samples,
        train_images=train,
        holdout_images=holdout,
    )
    assert result.flagged[5]
    assert not result.features.flagged[5]
    assert result.evidence(5) is result.pixels
    assert result.evidence(5).samples.train_index[5] == 33
    assert result.evidence(0) is result.features


def test_too_few_pictures_are_refused():
    with pytest.raises(BadDataError, match="memorisation"):
        check(pictures(3, 0), pictures(3, 1), pictures(1, 2))
    with pytest.raises(BadDataError, match="0 samples"):
        check_memorisation(
            sample_features=np.ones((0, 2)),
            train_features=np.ones((3, 2)),
            holdout_features=np.ones((4, 2)),
            sample_images=pictures(1, 0)[:0],
            train_images=pictures(3, 1),
            holdout_images=pictures(4, 2),
        )


def test_pictures_of_different_size_are_refused():
    small = pictures(4, 0)[:, :4, :4]
    with pytest.raises(BadDataError, match="one size"):
        check_memorisation(
            sample_features=np.ones((4, 2)),
            train_features=np.ones((4, 2)),
            holdout_features=np.ones((4, 2)),
            sample_images=small,
            train_images=pictures(4, 1),
            holdout_images=pictures(4, 2),
        )


@pytest.mark.parametrize(
    ("features", "problem"), [(np.ones((3, 2)), "one feature vector a picture"), (np.full((4, 2), np.nan), "not a finite number")]
)
def test_features_that_do_not_fit_are_refused(features, problem):
    with pytest.raises(BadDataError, match=problem):
        check_memorisation(
            sample_features=features,
            train_features=np.ones((4, 2)),
            holdout_features=np.ones((4, 2)),
            sample_images=pictures(4, 0),
            train_images=pictures(4, 1),
            holdout_images=pictures(4, 2),
        )
