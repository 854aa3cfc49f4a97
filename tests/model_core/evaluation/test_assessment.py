from dataclasses import replace

import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.assessment import PictureSet, assess, report_document
from model_core.evaluation.frechet import frechet_of_features
from model_core.evaluation.kid import kernel_inception_distance
from model_core.evaluation.manifold import manifold_scores

DIM = 6


def picture_set(count, seed, *, shift=0.0):
    generator = np.random.default_rng(seed)
    return PictureSet(
        images=generator.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8),
        features=generator.normal(shift, 1, (count, DIM)).astype(np.float32),
        labels=np.arange(count) % 2,
        captions=[f"caption {number}" for number in range(count)],
        names=[f"{seed}-{number}" for number in range(count)],
    )


def judge(samples, train, holdout, **options):
    noise = np.random.default_rng(99).normal(20, 5, (20, DIM)).astype(np.float32)
    settings = {"labels": ("a", "b"), "category_accuracy": False, "seed": 0, "num_resamples": 100, "noise_features": noise}
    return assess(samples, train, holdout, **settings | options)


def test_every_figure_is_the_one_of_its_own_module():
    samples, train, holdout = picture_set(30, 0, shift=0.5), picture_set(80, 1), picture_set(40, 2)
    found = judge(samples, train, holdout)
    assert found.kid == kernel_inception_distance(samples.features, holdout.features, seed=0)
    assert found.manifold.samples == manifold_scores(samples.features, holdout.features)
    assert found.fd_effnet_lite0.samples == frechet_of_features(samples.features, holdout.features)


def drawn_again(samples, times):
    """The samples of a model that draws nearly the same picture whenever it is asked for the same."""
    turn = np.arange(times * len(samples)) % len(samples)
    jitter = np.random.default_rng(7).normal(0, 0.01, (len(turn), DIM)).astype(np.float32)
    return replace(
        samples,
        images=samples.images[turn],
        features=samples.features[turn] + jitter,
        labels=samples.labels[turn],
        captions=[samples.captions[place] for place in turn],
        names=[str(place) for place in range(len(turn))],
        conditions=turn,
    )


def test_samples_of_one_description_are_no_independent_evidence():
    train, holdout = picture_set(80, 1), picture_set(40, 2)
    once = picture_set(16, 3)  # drawn as the real pictures are
    often = drawn_again(once, 8)
    found, alone = judge(often, train, holdout).kid, judge(once, train, holdout).kid
    naive = kernel_inception_distance(often.features, holdout.features, seed=0)
    assert found == kernel_inception_distance(often.features, holdout.features, seed=0, groups_x=often.conditions)
    assert found.low < 0 < found.high  # as good as real
    assert found.value == pytest.approx(alone.value, abs=0.05)  # drawing again tells nothing new
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.2)
    assert naive.low > 0
    assert naive.high - naive.low < 0.7 * (found.high - found.low)


def test_descriptions_fewer_than_groups_needed_are_refused():
    with pytest.raises(BadDataError, match="4 groups"):
        judge(drawn_again(picture_set(3, 3), 8), picture_set(80, 1), picture_set(40, 2))


def test_real_pictures_set_the_floor_and_noise_the_other_end():
    samples, train, holdout = picture_set(60, 0, shift=0.8), picture_set(300, 1), picture_set(60, 2)
    found = judge(samples, train, holdout)
    distance, scores = found.fd_effnet_lite0, found.manifold
    assert distance.real.value < distance.samples.value < distance.noise.value
    assert scores.real.coverage > scores.samples.coverage > scores.noise.coverage == 0.0
    assert distance.real.num_x == distance.samples.num_x == 60  # as many, so that the bias is the same


def test_a_distance_of_few_pictures_is_in_the_report_but_no_headline_figure():
    samples, train, holdout = picture_set(30, 0), picture_set(80, 1), picture_set(40, 2)
    found = judge(samples, train, holdout)
    assert not [name for name in found.metrics() if name.startswith("fd_")]
    document = report_document(found, samples, train, holdout)
    assert document["fd_effnet_lite0"]["num"] == {"samples": 30, "real": 30, "noise": 20}
    assert document["fd_effnet_lite0"]["biased"] is False  # 30 pictures, 6 dimensions


def test_a_distance_of_many_pictures_is_a_headline_figure_with_its_floor():
    samples, train, holdout = picture_set(2000, 0, shift=1.0), picture_set(2000, 1), picture_set(2000, 2)
    metrics = judge(samples, train, holdout).metrics()
    assert metrics["fd_effnet_lite0"] == pytest.approx(DIM, rel=0.2)  # the means differ by 1 in each dimension
    assert metrics["fd_effnet_lite0_real"] < 0.1
    assert "fd_effnet_lite0_noise" not in metrics  # of too few pictures


def test_old_names_stay():
    samples, train, holdout = picture_set(30, 0), picture_set(80, 1), picture_set(40, 2)
    found = judge(samples, train, holdout, category_accuracy=True)
    document = report_document(found, samples, train, holdout)
    assert set(document["metrics"]) >= {
        *("kid", "kid_low", "kid_high", "kid_real", "kid_noise"),
        *("category_accuracy", "category_accuracy_low", "category_accuracy_high"),
        *("category_accuracy_chance", "category_accuracy_real"),
        *("memorisation_ratio_median", "memorisation_ratio_median_real"),
        *("memorised_share", "memorised_share_real"),
    }
    assert set(document) >= {"metrics", "num_samples", "num_train", "num_holdout", "kid", "memorisation", "category_accuracy"}
    assert {"train_sha256", "train_distance", "holdout_distance", "ratio", "space"} <= set(document["memorisation"]["worst"][0])


def test_replicates_of_each_judged_figure_lie_around_it():
    train, holdout = picture_set(80, 1), replace(picture_set(40, 2), conditions=np.arange(40))
    samples = drawn_again(picture_set(40, 0, shift=0.5), 3)
    found = judge(samples, train, holdout, category_accuracy=True, num_resamples=400)
    document = report_document(found, samples, train, holdout)
    resamples = document["resamples"]
    assert (resamples["seed"], resamples["num"]) == (0, 400)
    assert set(resamples["metrics"]) == {"kid", "category_accuracy", "memorised_share"}
    for name, replicates in resamples["metrics"].items():
        assert len(replicates) == 400
        assert np.mean(replicates) == pytest.approx(document["metrics"][name], abs=0.2 * np.std(replicates) + 1e-9), name
    accuracy = resamples["metrics"]["category_accuracy"]
    ends = [document["metrics"][f"category_accuracy_{end}"] for end in ("low", "high")]
    assert np.percentile(accuracy, [2.5, 97.5]) == pytest.approx(ends, abs=0.03)  # the ordinary bootstrap says the same


def test_replicates_of_another_model_are_of_the_same_rows():
    train, holdout = picture_set(80, 1), replace(picture_set(40, 2), conditions=np.arange(40))
    often, shifted = drawn_again(picture_set(40, 0), 3), drawn_again(picture_set(40, 0, shift=0.05), 3)
    found = [judge(samples, train, holdout).resamples.metrics["kid"] for samples in (often, shifted)]
    assert np.corrcoef(found)[0, 1] > 0.95
    assert np.std(found[0] - found[1]) < 0.3 * np.std(found[0])


def test_replicates_are_no_more_than_percentiles_need():
    sets = picture_set(30, 0), picture_set(80, 1), picture_set(40, 2)
    assert judge(*sets, num_resamples=1200).resamples.num == 1000
    assert set(judge(*sets).resamples.metrics) == {"kid", "memorised_share"}


def test_the_same_input_gives_the_same_report():
    sets = picture_set(30, 0), picture_set(80, 1), picture_set(40, 2)
    assert report_document(judge(*sets), *sets) == report_document(judge(*sets), *sets)


def test_too_few_pictures_for_radii_leave_the_scores_out():
    sets = picture_set(30, 0), picture_set(80, 1), picture_set(5, 2)
    found = judge(*sets)
    assert found.manifold is None
    assert "precision" not in found.metrics()
    assert report_document(found, *sets)["manifold"] is None
