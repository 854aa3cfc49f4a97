import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.clips import (
    ClipStatistics,
    clip_features,
    compare_clips,
    kid_motion,
    motion_features,
    pixel_flicker,
    stream_clips,
    temporal_consistency,
)

FRAMES, SIZE = 6, 8
DIM = 10


def moving(count, seed, *, speed=1):
    """Clips of a bright blob that wanders over a coloured ground."""
    generator = np.random.default_rng(seed)
    clips = np.empty((count, FRAMES, SIZE, SIZE, 3), np.uint8)
    for clip in clips:
        clip[:] = generator.integers(0, 100, 3)
        x, y = generator.integers(0, SIZE, 2)
        for number, frame in enumerate(clip):
            for dx in range(3):
                for dy in range(3):
                    frame[(y + dy) % SIZE, (x + number * speed + dx) % SIZE] = 250
    return clips


def shuffled(clips, seed=0):
    order = np.array([3, 0, 4, 1, 5, 2])
    return np.random.default_rng(seed).permutation(clips[:, order])


def extract(images):
    projection = np.random.default_rng(42).normal(size=(SIZE * SIZE * 3, DIM))
    return np.tanh(images.reshape(len(images), -1) / 255.0 @ projection / 4).astype(np.float32)


def statistics(clips):
    return ClipStatistics.of(clip_features(extract, clips), clips)


def test_still_clips_are_consistent_and_do_not_flicker():
    still = np.repeat(moving(5, 0)[:, :1], FRAMES, axis=1)
    features = clip_features(extract, still)
    assert temporal_consistency(features).tolist() == [1.0] * 5
    assert pixel_flicker(still).tolist() == [0.0] * 5
    assert not motion_features(features).any()


def test_black_clips_with_no_features_at_all_are_consistent():
    assert temporal_consistency(np.zeros((2, 3, 4))).tolist() == [1.0, 1.0]


def test_consistency_is_the_mean_cosine():
    features = np.array([[[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]])
    assert temporal_consistency(features) == pytest.approx(np.sqrt(0.5))
    turned = np.array([[[1.0, 0.0], [-3.0, 0.0]]])
    assert temporal_consistency(turned) == pytest.approx(-1.0)


def test_flicker_is_the_mean_absolute_difference():
    clips = np.random.default_rng(1).integers(0, 256, (3, 4, 5, 5, 3), dtype=np.uint8)
    expected = np.abs(np.diff(clips.astype(float) / 255, axis=1)).mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(pixel_flicker(clips), expected)
    black_white = np.zeros((1, 4, 5, 5, 3), np.uint8)
    black_white[:, ::2] = 255
    assert pixel_flicker(black_white) == pytest.approx(1.0)


def test_shuffled_frames_score_worse_than_ordered_ones():
    real, ordered = statistics(moving(60, 1)), moving(60, 2)
    good, bad = compare_clips(statistics(ordered), real), compare_clips(statistics(shuffled(ordered)), real)
    assert bad.frechet_motion.value > 3 * good.frechet_motion.value
    assert bad.temporal_consistency < good.temporal_consistency
    assert bad.pixel_flicker > good.pixel_flicker
    assert bad.frechet_frames.value == pytest.approx(good.frechet_frames.value)  # as pictures they are the same


def test_still_samples_are_told_from_moving_ones_by_the_distance_of_motion():
    real = statistics(moving(60, 1))
    still = np.repeat(moving(60, 2)[:, :1], FRAMES, axis=1)
    found, good = compare_clips(statistics(still), real), compare_clips(statistics(moving(60, 2)), real)
    assert found.temporal_consistency == 1.0 > found.temporal_consistency_real
    assert found.frechet_motion.value > 3 * good.frechet_motion.value


def test_kid_of_motion_grows_when_frames_are_shuffled():
    real, ordered = clip_features(extract, moving(40, 1)), moving(40, 2)
    good = kid_motion(clip_features(extract, ordered), real, seed=0)
    bad = kid_motion(clip_features(extract, shuffled(ordered)), real, seed=0)
    assert good.low <= 0 <= good.high or abs(good.value) < 0.2 * bad.value
    assert bad.low > good.high
    assert kid_motion(clip_features(extract, ordered), real, seed=0) == good


def test_statistics_do_not_depend_on_the_batches():
    clips = moving(21, 3)
    whole, streamed = statistics(clips), stream_clips(np.split(clips, [1, 8, 9]), extract)
    assert streamed.num_clips == 21
    assert streamed.temporal_consistency == pytest.approx(whole.temporal_consistency)
    assert streamed.pixel_flicker == pytest.approx(whole.pixel_flicker)
    np.testing.assert_allclose(streamed.motion.covariance, whole.motion.covariance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(streamed.frames.mean, whole.frames.mean)


def test_clips_played_backwards_keep_consistency_and_flicker_but_not_the_mean_of_motion():
    clips = moving(10, 5)
    forth, back = statistics(clips), statistics(clips[:, ::-1])
    assert back.temporal_consistency == pytest.approx(forth.temporal_consistency)
    assert back.pixel_flicker == pytest.approx(forth.pixel_flicker)
    np.testing.assert_allclose(back.motion.mean, -forth.motion.mean, atol=1e-9)


def test_clips_equal_to_the_real_ones_are_at_distance_zero():
    clips = statistics(moving(20, 4))
    found = compare_clips(clips, clips)
    assert found.frechet_motion.value == pytest.approx(0, abs=1e-9)
    assert set(found.metrics()) == {
        "fd_effnet_lite0_frames",
        "fd_effnet_lite0_motion",
        "temporal_consistency",
        "temporal_consistency_real",
        "pixel_flicker",
        "pixel_flicker_real",
    }


@pytest.mark.parametrize(
    "clips",
    [
        np.zeros((0, 4, 8, 8, 3), np.uint8),
        np.zeros((2, 1, 8, 8, 3), np.uint8),
        np.zeros((2, 4, 8, 8), np.uint8),
        np.zeros((2, 4, 8, 8, 3)),
    ],
)
def test_unusable_clips_are_refused(clips):
    for refuse in (lambda: clip_features(extract, clips), lambda: pixel_flicker(clips)):
        with pytest.raises(BadDataError, match="clip"):
            refuse()


def test_no_clips_and_features_that_do_not_fit_are_refused():
    with pytest.raises(BadDataError, match="no clips"):
        stream_clips([], extract)
    with pytest.raises(BadDataError, match="each frame"):
        ClipStatistics.of(np.ones((2, FRAMES - 1, DIM)), moving(2, 0))
    with pytest.raises(BadDataError, match="two frames"):
        motion_features(np.ones((2, 1, DIM)))
    with pytest.raises(BadDataError, match="finite"):
        temporal_consistency(np.full((2, 3, DIM), np.nan))
    with pytest.raises(BadDataError, match="at least 4 groups"):
        kid_motion(np.ones((3, 9, DIM)), np.ones((9, 9, DIM)), seed=0)
