import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.schedules import (
    NoiseSchedule,
    cosine_betas,
    linear_betas,
    noise_schedule,
    scaled_linear_betas,
    sigmoid_betas,
    zero_terminal_snr_betas,
)

NAMES = ["linear", "cosine", "scaled_linear", "sigmoid"]
PEERS = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


def _diffusers(**options):
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=1000, **options)


@pytest.mark.parametrize("name", PEERS)
def test_betas_are_those_of_diffusers(name):
    torch.testing.assert_close(noise_schedule(name).betas.float(), _diffusers(**PEERS[name]).betas, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_zero_terminal_snr_is_diffusers_rescaling(name):
    from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr

    expected = rescale_zero_terminal_snr(noise_schedule(name).betas)
    torch.testing.assert_close(noise_schedule(name, zero_terminal_snr=True).betas, expected, atol=1e-12, rtol=1e-9)


def test_zero_terminal_snr_shifts_and_scales_the_signal_and_keeps_its_start():
    old = noise_schedule("scaled_linear").signals
    new = noise_schedule("scaled_linear", zero_terminal_snr=True).signals
    torch.testing.assert_close(new, (old - old[-1]) * old[0] / (old[0] - old[-1]), atol=1e-12, rtol=1e-9)
    assert float(new[0]) == pytest.approx(float(old[0]), abs=1e-12)


def test_alpha_bar_of_the_sigmoid_schedule_is_jabris():
    def gamma(u):
        low, high, at = (1 / (1 + math.exp(-x)) for x in (-3.0, 3.0, 6 * u - 3))
        return (high - at) / (high - low)

    alpha_bars = noise_schedule("sigmoid", 50).alpha_bars
    expected = torch.tensor([gamma((step + 1) / 50) for step in range(49)], dtype=torch.float64)
    torch.testing.assert_close(alpha_bars[:-1], expected, atol=1e-12, rtol=1e-9)
    assert 0 < alpha_bars[-1] < 1e-3 * alpha_bars[-2] * 1.001


def test_diffusers_sigmoid_is_another_schedule_with_less_signal_half_way():
    theirs = _diffusers(beta_schedule="sigmoid", beta_start=1e-4, beta_end=0.02).alphas_cumprod
    assert float(noise_schedule("sigmoid").alpha_bars[499]) == pytest.approx(0.5, abs=1e-3)
    assert float(theirs[499]) == pytest.approx(0.302, abs=1e-3)


@pytest.mark.parametrize("betas", [linear_betas, scaled_linear_betas])
@pytest.mark.parametrize("num_timesteps", [1, 10, 100, 4000])
def test_little_signal_is_left_at_the_end_whatever_the_number_of_steps(betas, num_timesteps):
    values = betas(num_timesteps)
    assert ((values > 0) & (values < 1)).all()
    if num_timesteps >= 100:
        assert torch.prod(1 - values) < 6e-3


@given(name=st.sampled_from(NAMES), num_timesteps=st.integers(2, 1500), zero_terminal_snr=st.booleans())
def test_laws_of_every_schedule(name, num_timesteps, zero_terminal_snr):
    schedule = noise_schedule(name, num_timesteps, zero_terminal_snr)
    assert schedule.num_timesteps == num_timesteps
    assert ((schedule.betas > 0) & (schedule.betas <= 1)).all()
    assert (schedule.alpha_bars.diff() < 0).all()
    assert 0 <= schedule.alpha_bars[-1] < schedule.alpha_bars[0] < 1
    assert (schedule.alpha_bars[-1] == 0) == zero_terminal_snr
    torch.testing.assert_close(schedule.signals**2 + schedule.sigmas**2, torch.ones(num_timesteps, dtype=torch.float64))
    torch.testing.assert_close(schedule.previous_alpha_bars * (1 - schedule.betas), schedule.alpha_bars)


@pytest.mark.parametrize("name", NAMES)
def test_zero_terminal_snr_ends_in_exactly_nothing_but_noise(name):
    schedule = noise_schedule(name, 1000, zero_terminal_snr=True)
    assert (float(schedule.signals[-1]), float(schedule.sigmas[-1]), float(schedule.betas[-1])) == (0.0, 1.0, 1.0)


def test_rescaling_twice_is_rescaling_once():
    once = zero_terminal_snr_betas(cosine_betas(40))
    torch.testing.assert_close(zero_terminal_snr_betas(once), once)


def test_a_sharper_sigmoid_keeps_the_middle():
    sharp = NoiseSchedule(betas=(betas := sigmoid_betas(100, tau=0.3)), alpha_bars=torch.cumprod(1 - betas, dim=0))
    assert sharp.alpha_bars[24] > noise_schedule("sigmoid", 100).alpha_bars[24]


def test_a_schedule_of_no_steps_or_an_unknown_name_is_refused(unchecked):
    with pytest.raises(ValueError, match="at least one step, not 0"):
        noise_schedule("linear", 0)
    with pytest.raises(ValueError, match="at least one step, not -3"):
        noise_schedule("cosine", -3)
    with pytest.raises(ValueError, match="sigmoidal"):
        noise_schedule("sigmoidal")


def test_one_step_cannot_have_zero_terminal_snr():
    assert noise_schedule("linear", 1).num_timesteps == 1
    with pytest.raises(ValueError, match="at least two steps"):
        noise_schedule("linear", 1, zero_terminal_snr=True)


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_schedule_is_refused(step):
    schedule = noise_schedule("linear", 10)
    with pytest.raises(ValueError, match=f"step {step} is out of range: the noise schedule has steps 0 to 9"):
        schedule.at(torch.tensor([0, step]), schedule.betas, torch.zeros(2, 1, 1, 1, 1))


def test_values_at_steps_take_shape_and_dtype_of_the_samples():
    schedule = noise_schedule("linear", 10)
    values = schedule.at(torch.tensor([9, 0]), schedule.betas, torch.zeros(2, 3, 1, 4, 4))
    assert (values.shape, values.dtype) == ((2, 1, 1, 1, 1), torch.float32)
    assert values.flatten().tolist() == schedule.betas[[9, 0]].float().tolist()
