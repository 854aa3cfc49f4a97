"""Times of frames: what context and independent times are, and that only what counts is learnt."""

import pytest
import torch

from model_core.diffusion.frame_times import MAX_CONTEXT_TIME, context_times, independent_times
from model_core.diffusion.objective import make_objective

FRAMES, JOINED = 8, 2
OBJECTIVES = {name: make_objective(name, num_timesteps=40) for name in ("rectified_flow", "epsilon", "x0", "v")}


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _drawn(objective, count=4000, probability=0.5):
    times = objective.draw_times(count, _generator(1), "uniform")
    return times, context_times(times, FRAMES, JOINED, objective, probability=probability, generator=_generator(2))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_context_comes_first_nearly_clean_and_does_not_count(name):
    objective = OBJECTIVES[name]
    times, found = _drawn(objective)
    lengths = (~found.counted).sum(dim=1)
    assert torch.equal(found.counted, torch.arange(FRAMES) >= lengths[:, None])
    assert set(lengths.tolist()) == {0, 2, 4, 6}  # whole patches, and always some frames to learn
    assert torch.equal(found.times[found.counted], times[:, None].expand(-1, FRAMES)[found.counted])
    most = MAX_CONTEXT_TIME * (1 if objective.schedule is None else objective.schedule.num_timesteps)
    assert 0 <= float(found.times[~found.counted].min()) <= float(found.times[~found.counted].max()) <= most
    assert found.times.dtype == times.dtype


def test_lengths_of_context_are_as_likely_as_each_other():
    _, found = _drawn(OBJECTIVES["rectified_flow"])
    lengths = (~found.counted).sum(dim=1)
    assert float((lengths > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    for length in (2, 4, 6):
        assert float((lengths == length).float().mean()) == pytest.approx(1 / 6, abs=0.025)


def test_without_context_every_frame_counts_at_the_clips_time():
    times, found = _drawn(OBJECTIVES["v"], probability=0.0)
    assert bool(found.counted.all())
    assert torch.equal(found.times, times[:, None].expand(-1, FRAMES))


def test_independent_times_are_one_a_patch():
    times = torch.arange(8.0)
    found = independent_times(times, 2, JOINED)
    assert found.times.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6, 7, 7]]
    assert found.counted is None


@pytest.mark.parametrize("weighted", [{}, {"min_snr_gamma": 5.0}])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_that_of_each_frame_at_its_own_time(name, weighted):
    objective = make_objective(name, num_timesteps=40, **weighted)
    x_0, noise = (torch.randn(2, 3, 4, 2, 2, generator=_generator(seed), dtype=torch.float64) for seed in (1, 2))
    t = objective.time_at(torch.tensor([[0.05, 0.05, 0.6, 0.6], [0.2, 0.4, 0.6, 0.8]]))
    counted = torch.tensor([[False, False, True, True], [True, True, True, True]])

    def predict(x_t, timestep):
        return torch.tanh(x_t)

    frames = [
        objective.loss(predict, x_0[[item], :, [frame]].unsqueeze(2), noise[[item], :, [frame]].unsqueeze(2), t[[item], [frame]])
        for item in range(2)
        for frame in range(4)
        if bool(counted[item, frame])
    ]
    expected = torch.stack(frames).sum() / 8  # a mean over all eight frames, of which two add nothing
    assert float(objective.loss(predict, x_0, noise, t, counted)) == pytest.approx(float(expected), rel=1e-6)


def test_equal_times_of_frames_have_the_loss_of_one_time():
    objective = OBJECTIVES["v"]
    x_0, noise = (torch.randn(2, 3, 4, 2, 2, generator=_generator(seed)) for seed in (1, 2))
    t = torch.tensor([3, 30])

    def predict(x_t, timestep):
        return torch.tanh(x_t)

    one, each = (objective.loss(predict, x_0, noise, times) for times in (t, t[:, None].expand(2, 4)))
    assert torch.equal(one, each)


def test_a_learnt_variance_has_no_times_of_frames():
    objective = make_objective("epsilon", num_timesteps=40, learn_variance=True)
    x_0 = torch.zeros(1, 3, 4, 2, 2)
    with pytest.raises(ValueError, match="one time a sample"):
        objective.loss(lambda x_t, _: torch.cat([x_t, x_t], dim=1), x_0, x_0, torch.zeros(1, 4, dtype=torch.int64))
