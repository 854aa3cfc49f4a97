import itertools

import numpy as np
import pytest
import torch

from model_core.sampling.euler import euler, heun
from model_core.sampling.points import flow_points
from tests.model_core.sampling.mixture import exact, flow_point, order_of, velocity
from tests.model_core.sampling.toys import last, network, noise


def _gaussian_velocity(mean, std):
    """The exact velocity for data N(mean, std^2): E[noise - x_0 | x_t]."""

    def predict(x_t, timestep):
        t = (timestep / 1000).to(x_t).view(-1, 1, 1, 1, 1)
        variance = (1 - t).square() * std**2 + t.square()
        centred = x_t - (1 - t) * mean
        return t / variance * centred - (mean + (1 - t) * std**2 / variance * centred)

    return predict


def test_euler_converges_at_first_order_to_the_closed_form_for_gaussian_data():
    mean, std = 1.7, 0.6
    closed_form = mean + std * noise()  # the flow's map of one gaussian to another
    errors = [
        float((last(euler(_gaussian_velocity(mean, std), noise(), flow_points(n))).x_t - closed_form).abs().max())
        for n in (20, 40, 80, 160)
    ]
    assert errors[-1] < 0.02
    assert [before / after for before, after in itertools.pairwise(errors)] == pytest.approx([2.0] * 3, rel=0.2)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_the_error_on_a_mixture_falls_at_the_methods_order(sampler, order):
    reference = exact(flow_point, noise())
    errors = {
        n: float((last(sampler(velocity, noise(), flow_points(n))).x_t - reference).abs().mean()) for n in (20, 40, 80, 160)
    }
    assert order_of(errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_agrees_with_diffusers_step_for_step(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 7, 7))
    expected = noise(dtype=torch.float32)
    ours = euler(network, noise(dtype=torch.float32), flow_points(7, shift=shift))
    for state, timestep in zip(ours, scheduler.timesteps, strict=True):
        expected = scheduler.step(network(expected, timestep.expand(2)), timestep, expected).prev_sample
        torch.testing.assert_close(state.x_t, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_heun_agrees_with_diffusers_step_for_step(shift):
    from diffusers import FlowMatchHeunDiscreteScheduler

    # Their last time before 0 is one timestep of training, ours one even step: with as many timesteps as steps they are one.
    scheduler = FlowMatchHeunDiscreteScheduler(num_train_timesteps=7, shift=1.0)
    scheduler.set_timesteps(7)
    points = flow_points(7, shift=shift)
    sigmas = torch.tensor([point.sigma for point in points])
    scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    x = noise(dtype=torch.float32)
    calls = iter(zip(scheduler.timesteps, (p for n, p in enumerate(points[:-1]) for _ in range(2 if n else 1)), strict=True))
    for step, state in enumerate(heun(network, x, points), start=1):
        for timestep, point in itertools.islice(calls, 1 if step == 7 else 2):
            x = scheduler.step(network(x, torch.full((2,), point.timestep)), timestep, x).prev_sample
        torch.testing.assert_close(state.x_t, x, atol=1e-5, rtol=1e-5)


def test_eulers_arithmetic_is_bit_for_bit_that_of_models_already_trained():
    x = noise(dtype=torch.float32)
    for step, state in enumerate(euler(network, x, flow_points(20))):
        now, then = 1 - step / 20, 1 - (step + 1) / 20
        x = x + (then - now) * network(x, torch.full((2,), 1000.0 * now))
        assert torch.equal(state.x_t, x)


@pytest.mark.parametrize("sampler", [euler, heun])
def test_one_step_goes_all_the_way(sampler):
    x_0 = noise() + 3
    (state,) = sampler(lambda x_t, timestep: x_t - x_0, noise(), flow_points(1))
    torch.testing.assert_close(state.x_t, x_0)
    torch.testing.assert_close(state.x_0, x_0)


@pytest.mark.parametrize(("sampler", "calls"), [(euler, 6), (heun, 11)])
def test_states_tell_how_far_they_are_and_what_the_network_sees(sampler, calls):
    seen = []

    def counted(x_t, timestep):
        seen.append(float(timestep[0]))
        return network(x_t, timestep)

    states = list(sampler(counted, noise(), flow_points(6)))
    assert [(state.step, state.num_steps) for state in states] == [(step, 6) for step in range(1, 7)]
    assert [state.timestep for state in states] == [point.timestep for point in flow_points(6)[:-1]]
    assert len(seen) == calls
    assert 0.0 not in seen
    torch.testing.assert_close(states[-1].x_0, states[-1].x_t)
