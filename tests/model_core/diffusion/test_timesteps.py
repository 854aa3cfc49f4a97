import pytest
import torch

from model_core.diffusion.timesteps import logit_normal_steps, logit_normal_times, uniform_steps, uniform_times


def _generator():
    return torch.Generator().manual_seed(0)


def test_uniform_steps_cover_the_schedule_and_nothing_else():
    steps = uniform_steps(2000, 10, _generator())
    assert steps.unique().tolist() == list(range(10))


def test_uniform_times_have_their_mean():
    assert float(uniform_times(5000, _generator()).mean()) == pytest.approx(0.5, abs=0.02)


def test_logit_normal_times_have_the_median_and_spread_of_their_logit():
    logits = torch.logit(logit_normal_times(5000, _generator(), mean=0.5, std=0.8))
    assert float(logits.median()) == pytest.approx(0.5, abs=0.05)
    assert float(logits.std()) == pytest.approx(0.8, abs=0.03)


def test_logit_normal_steps_are_logit_normal_times_counted_in_steps():
    times = logit_normal_times(3000, _generator(), mean=0.3, std=1.5)
    steps = logit_normal_steps(3000, 50, _generator(), mean=0.3, std=1.5)
    assert steps.dtype == torch.int64
    assert torch.equal(steps, (times * 50).floor().long())


def test_logit_normal_steps_stay_in_the_schedule_where_times_round_to_one():
    assert logit_normal_steps(100, 10, _generator(), mean=100.0).tolist() == [9] * 100
    assert logit_normal_steps(100, 10, _generator(), mean=-100.0).tolist() == [0] * 100
