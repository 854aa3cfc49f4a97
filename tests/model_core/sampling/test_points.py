import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.schedules import noise_schedule
from model_core.errors import BadDataError
from model_core.sampling.points import DATA, Point, flow_points, part_way, schedule_points, spaced_timesteps


def test_flow_goes_evenly_from_noise_to_data():
    points = flow_points(4)
    assert [point.timestep for point in points] == [1000, 750, 500, 250, 0]
    assert [point.sigma for point in points] == [1, 0.75, 0.5, 0.25, 0]
    assert points[-1] == DATA


@given(num_steps=st.integers(1, 200), shift=st.floats(0.01, 50))
def test_the_shift_keeps_the_ends_and_the_order_and_moves_times_towards_noise(num_steps, shift):
    plain, shifted = flow_points(num_steps), flow_points(num_steps, shift=shift)
    assert (shifted[0].sigma, shifted[-1].sigma) == (1, 0)
    assert all(after.sigma < before.sigma for before, after in itertools.pairwise(shifted))
    for one, other in zip(plain[1:-1], shifted[1:-1], strict=True):
        assert (other.sigma >= one.sigma - 1e-12) == (shift >= 1) or math.isclose(one.sigma, other.sigma)


def test_the_shift_is_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 7, 7))
    ours = torch.tensor([point.sigma for point in flow_points(7, shift=3.0)])
    torch.testing.assert_close(ours, scheduler.sigmas, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("num_steps", [2, 7, 50, 333, 999, 1000])
def test_spacings_are_diffusers(spacing, num_steps):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(num_steps)
    assert spaced_timesteps(num_steps, 1000, spacing) == scheduler.timesteps.tolist()


@given(num_timesteps=st.integers(1, 1200), data=st.data(), spacing=st.sampled_from(["leading", "trailing", "linspace"]))
def test_steps_fall_and_stay_in_the_schedule(num_timesteps, data, spacing):
    num_steps = data.draw(st.integers(1, num_timesteps))
    steps = spaced_timesteps(num_steps, num_timesteps, spacing)
    assert len(steps) == num_steps
    assert sorted(set(steps), reverse=True) == steps
    assert steps[0] < num_timesteps
    assert steps[-1] >= 0
    assert spacing == "leading" or steps[0] == num_timesteps - 1


def test_lambda_rises_and_is_infinite_only_where_signal_or_noise_is_nothing():
    points = schedule_points(noise_schedule("linear", 1000, zero_terminal_snr=True), 10)
    assert points[0].signal == 0
    lambdas = [point.log_snr for point in points]
    assert lambdas == sorted(lambdas)
    assert lambdas[0] == -math.inf
    assert lambdas[-1] == math.inf
    assert all(map(math.isfinite, lambdas[1:-1]))
    assert Point(timestep=1.0, signal=0.6, sigma=0.8).log_snr == pytest.approx(math.log(0.75))


def test_a_schedules_points_lie_on_its_path():
    schedule = noise_schedule("cosine", 100)
    for point in schedule_points(schedule, 9)[:-1]:
        assert point.signal**2 + point.sigma**2 == pytest.approx(1)
        assert point.signal == pytest.approx(float(schedule.signals[int(point.timestep)]))


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 10), (0.5, 5), (0.34, 3), (0.01, 1), (0.96, 10)])
def test_part_way_keeps_the_last_part(strength, steps):
    points = flow_points(10)
    assert part_way(points, strength) == points[10 - steps :]


@pytest.mark.parametrize("num_steps", [0, -3, 1001])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_impossible_numbers_of_steps_are_refused(num_steps, spacing):
    with pytest.raises(BadDataError, match="1 to 1000 steps"):
        schedule_points(noise_schedule("linear"), num_steps, spacing=spacing)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_less_than_one_step_is_refused(num_steps):
    with pytest.raises(BadDataError, match="at least one step"):
        flow_points(num_steps)


@pytest.mark.parametrize("shift", [0.0, -1.0, math.nan, math.inf])
def test_a_shift_that_is_no_factor_is_refused(shift):
    with pytest.raises(BadDataError, match="time shift"):
        flow_points(4, shift=shift)
