import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.drift import distance_to_first, measure_drift, write_drift_plot
from model_core.evaluation.kid import kernel_inception_distance
from model_core.evaluation.probe import train_probe

CLIPS, SECONDS, FRAMES, DIM = 12, 4, 3, 8
CENTRES = np.eye(3, DIM) * 6


def _drawn(labels, seed):
    return CENTRES[labels] + np.random.default_rng(seed).standard_normal((*np.shape(labels), DIM))


def _measured(asked, shown, seed=1):
    """Drift of clips that show a category each second."""
    real_labels = np.arange(60) % 3
    probe = train_probe(_drawn(np.arange(300) % 3, 7), np.arange(300) % 3)
    features = _drawn(np.repeat(shown[:, :, None], FRAMES, axis=2), seed)
    found = measure_drift(
        features, asked, real=_drawn(real_labels, 8), real_labels=real_labels, real_clips=np.arange(60) // 2, probe=probe
    )
    return features, found


def test_the_distance_to_the_first_second_is_one_less_the_cosine_of_means():
    features = np.random.default_rng(0).random((CLIPS, SECONDS, FRAMES, DIM))
    found = distance_to_first(features)
    for clip in range(CLIPS):
        first = features[clip, 0].mean(axis=0)
        for second in range(SECONDS):
            mean = features[clip, second].mean(axis=0)
            expected = 1 - first @ mean / np.sqrt((first @ first) * (mean @ mean))
            assert found[clip, second] == pytest.approx(expected, abs=1e-12)
    assert np.allclose(found[:, 0], 0)


def test_clips_that_keep_their_category_do_not_drift_and_those_that_lose_it_do():
    asked = np.arange(CLIPS) % 3
    steady = np.repeat(asked[:, None], SECONDS, axis=1)
    lost = steady.copy()
    lost[:, 2:] = 0  # in the end all show the first category
    features, kept = _measured(asked, steady)
    _, drifted = _measured(asked, lost)
    assert kept.accuracy == (1.0,) * SECONDS
    assert kept.accuracy_kept == 1.0
    assert kept.accuracy_real > 0.95
    assert drifted.accuracy[:2] == (1.0, 1.0)
    assert drifted.accuracy[2:] == pytest.approx((1 / 3, 1 / 3))
    assert drifted.accuracy_kept == pytest.approx(1 / 3)
    assert drifted.to_first[3].low > kept.to_first[3].high
    assert drifted.to_real[3].low > kept.to_real[3].high
    real = _drawn(np.arange(60) % 3, 8)
    expected = kernel_inception_distance(
        features[:, 2].reshape(-1, DIM), real, seed=0, groups_x=np.repeat(np.arange(CLIPS), FRAMES), groups_y=np.arange(60) // 2
    )
    assert kept.to_real[2] == expected


def test_the_same_drift_gives_the_same_plot(tmp_path):
    asked = np.arange(CLIPS) % 3
    _, drift = _measured(asked, np.repeat(asked[:, None], SECONDS, axis=1))
    for name in ("one", "two"):
        write_drift_plot({"a": drift, "b": drift}, tmp_path / f"{name}.png", title="drift")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("features", "real", "problem"),
    [
        (np.zeros((0, 2, 2, DIM)), np.zeros((2, DIM)), "not of some seconds"),
        (np.zeros((1, 2, 2, DIM)), np.zeros((3, DIM)), "have 2 labels"),
        (np.full((1, 2, 2, DIM), np.nan), np.zeros((2, DIM)), "not finite"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(features, real, problem):
    probe = train_probe(_drawn(np.arange(30) % 3, 7), np.arange(30) % 3)
    with pytest.raises(BadDataError, match=problem):
        measure_drift(
            features,
            np.zeros(len(features), dtype=int),
            real=real,
            real_labels=np.zeros(2, int),
            real_clips=np.arange(2),
            probe=probe,
        )
