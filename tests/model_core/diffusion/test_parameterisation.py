import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.forward import interpolate
from model_core.diffusion.parameterisation import (
    flow_velocity,
    noise_from_velocity,
    noise_from_x0,
    target,
    to_noise,
    to_x0,
    x0_from_noise,
    x0_from_velocity,
)
from model_core.diffusion.schedules import noise_schedule

SHAPE = (2, 3, 1, 2, 2)
PREDICTIONS = ["epsilon", "x0", "v", "velocity"]
COEFFICIENT = st.floats(0.05, 3)


def _draw(seed):
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 1000), signal=COEFFICIENT, sigma=COEFFICIENT)
def test_noise_and_data_determine_each_other(seed, signal, sigma):
    x_0, noise = _draw(seed)
    x_t = signal * x_0 + sigma * noise
    torch.testing.assert_close(x0_from_noise(x_t, noise, signal, sigma), x_0)
    torch.testing.assert_close(noise_from_x0(x_t, x_0, signal, sigma), noise)


@given(seed=st.integers(0, 1000), t=st.floats(0, 1))
def test_velocity_gives_back_both_ends_of_the_path(seed, t):
    x_0, noise = _draw(seed)
    x_t = interpolate(x_0, noise, torch.full((2,), t, dtype=torch.float64))
    velocity = flow_velocity(x_0, noise)
    torch.testing.assert_close(x0_from_velocity(x_t, velocity, t), x_0)
    torch.testing.assert_close(noise_from_velocity(x_t, velocity, t), noise)


@given(seed=st.integers(0, 1000), prediction=st.sampled_from(PREDICTIONS), signal=COEFFICIENT, sigma=COEFFICIENT)
def test_every_prediction_determines_both_ends_on_any_path(seed, prediction, signal, sigma):
    x_0, noise = _draw(seed)
    x_t = signal * x_0 + sigma * noise
    output = target(prediction, x_0, noise, signal, sigma)
    torch.testing.assert_close(to_x0(prediction, output, x_t, signal, sigma), x_0)
    torch.testing.assert_close(to_noise(prediction, output, x_t, signal, sigma), noise)


@given(
    seed=st.integers(0, 1000),
    first=st.sampled_from(PREDICTIONS),
    second=st.sampled_from(PREDICTIONS),
    signal=COEFFICIENT,
    sigma=COEFFICIENT,
)
def test_any_output_survives_the_way_to_another_prediction_and_back(seed, first, second, signal, sigma):
    output, x_t = _draw(seed)  # an output of an imperfect network, with nothing to do with x_t

    def convert(prediction, output, to):
        x_0 = to_x0(prediction, output, x_t, signal, sigma)
        return target(to, x_0, to_noise(prediction, output, x_t, signal, sigma), signal, sigma)

    torch.testing.assert_close(convert(second, convert(first, output, second), first), output, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("prediction", ["x0", "v", "velocity"])
def test_pure_noise_still_determines_the_data_unless_noise_is_predicted(prediction):
    x_0, noise = _draw(0)
    schedule = noise_schedule("linear", 10, zero_terminal_snr=True)
    signal, sigma = float(schedule.signals[-1]), float(schedule.sigmas[-1])
    output = target(prediction, x_0, noise, signal, sigma)
    torch.testing.assert_close(to_x0(prediction, output, signal * x_0 + sigma * noise, signal, sigma), x_0)
    torch.testing.assert_close(to_noise(prediction, output, signal * x_0 + sigma * noise, signal, sigma), noise)


@pytest.mark.parametrize("signal", [0.0, torch.tensor([0.5, 0.0]).view(2, 1, 1, 1, 1)])
def test_data_cannot_be_read_from_the_noise_where_no_signal_is_left(signal):
    noise, _ = _draw(0)
    with pytest.raises(ValueError, match="no signal is left"):
        to_x0("epsilon", noise, noise, signal, 1.0)


@pytest.mark.parametrize("sigma", [0.0, torch.tensor([0.5, 0.0]).view(2, 1, 1, 1, 1)])
def test_noise_cannot_be_read_from_the_data_where_there_is_none(sigma):
    x_0, _ = _draw(0)
    with pytest.raises(ValueError, match="where there is none"):
        to_noise("x0", x_0, x_0, 1.0, sigma)


def test_v_and_velocity_hold_at_both_ends_for_samples_of_a_batch_at_different_times():
    x_0, noise = _draw(3)
    t = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1, 1)
    for prediction in ("v", "velocity"):
        output = target(prediction, x_0, noise, 1 - t, t)
        torch.testing.assert_close(to_x0(prediction, output, (1 - t) * x_0 + t * noise, 1 - t, t), x_0)
        torch.testing.assert_close(to_noise(prediction, output, (1 - t) * x_0 + t * noise, 1 - t, t), noise)


def test_v_is_diffusers_v():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    schedule, t = noise_schedule("linear"), torch.tensor([3, 700])
    x_0, noise = _draw(1)
    signal, sigma = schedule.at(t, schedule.signals, x_0), schedule.at(t, schedule.sigmas, x_0)
    torch.testing.assert_close(
        target("v", x_0, noise, signal, sigma), scheduler.get_velocity(x_0, noise, t), atol=1e-5, rtol=1e-4
    )


def test_an_unknown_prediction_is_refused(unchecked):
    x, _ = _draw(0)
    for convert in (to_x0, to_noise, target):
        with pytest.raises(ValueError, match="'score'; there are epsilon, x0, v, velocity"):
            convert("score", x, x, 1.0, 1.0)
