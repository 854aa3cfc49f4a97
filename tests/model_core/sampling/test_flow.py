import itertools

import numpy as np
import pytest
import torch

from model_core.errors import BadDataError
from model_core.sampling.flow import euler_flow, flow_times

SHAPE = (3, 2, 1, 2, 2)


def _noise():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _gaussian_velocity(mean, std):
    """The exact velocity for data N(mean, std^2): E[noise - x_0 | x_t]."""

    def predict(x_t, timestep):
        t = (timestep / 1000).to(x_t).view(-1, 1, 1, 1, 1)
        variance = (1 - t).square() * std**2 + t.square()
        centred = x_t - (1 - t) * mean
        return t / variance * centred - (mean + (1 - t) * std**2 / variance * centred)

    return predict


def test_euler_converges_at_first_order_to_the_closed_form_for_gaussian_data():
    noise, mean, std = _noise(), 1.7, 0.6
    exact = mean + std * noise  # the flow's map of one gaussian to another
    errors = []
    for num_steps in (20, 40, 80, 160):
        *_, x = euler_flow(_gaussian_velocity(mean, std), noise, num_steps=num_steps)
        errors.append(float((x - exact).abs().max()))
    assert errors[-1] < 0.02
    ratios = [before / after for before, after in itertools.pairwise(errors)]
    assert ratios == pytest.approx([2.0] * 3, rel=0.2)


def test_euler_agrees_with_diffusers_step_for_step():
    from diffusers import FlowMatchEulerDiscreteScheduler

    def predict(x_t, timestep):
        return 0.3 * x_t + torch.sin(timestep.view(-1, 1, 1, 1, 1) / 100)

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 7, 7))
    expected = _noise().float()
    for x_t, timestep in zip(euler_flow(predict, _noise().float(), num_steps=7), scheduler.timesteps, strict=True):
        expected = scheduler.step(predict(expected, timestep.expand(3)), timestep, expected).prev_sample
        torch.testing.assert_close(x_t, expected, atol=1e-5, rtol=1e-5)


def test_one_step_goes_all_the_way():
    x_0 = _noise() + 3
    (x,) = euler_flow(lambda x_t, timestep: x_t - x_0, _noise(), num_steps=1)
    torch.testing.assert_close(x, x_0)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_less_than_one_step_is_refused(num_steps):
    with pytest.raises(BadDataError, match="at least one step"):
        flow_times(num_steps)
