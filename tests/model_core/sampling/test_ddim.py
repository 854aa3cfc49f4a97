import pytest
import torch

from model_core.diffusion.schedules import noise_schedule
from model_core.errors import BadDataError
from model_core.sampling.ddim import ddim, ddim_steps

SHAPE = (2, 3, 1, 2, 2)


def _predict(x_t, timestep):
    return torch.tanh(x_t + timestep.view(-1, 1, 1, 1, 1).to(x_t) / 500)


def _noise(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def _diffusers(num_steps):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=False,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(num_steps)
    return scheduler


@pytest.mark.parametrize("num_steps", [1, 7, 50])
def test_ddim_agrees_with_diffusers_step_for_step(num_steps):
    scheduler, expected = _diffusers(num_steps), _noise()
    ours = ddim(_predict, _noise(), schedule=noise_schedule("linear"), num_steps=num_steps)
    for x_t, t in zip(ours, scheduler.timesteps, strict=True):
        expected = scheduler.step(_predict(expected, t.expand(2)), t, expected).prev_sample
        torch.testing.assert_close(x_t, expected, atol=1e-4, rtol=1e-4)


def test_ddim_with_ddpms_noise_agrees_with_diffusers():
    scheduler, expected = _diffusers(10), _noise()
    draws = iter(_noise(seed) for seed in range(1, 11))
    ours = ddim(_predict, _noise(), schedule=noise_schedule("linear"), num_steps=10, eta=1.0, draw_noise=lambda: next(draws))
    for number, (x_t, t) in enumerate(zip(ours, scheduler.timesteps, strict=True), start=1):
        predicted = _predict(expected, t.expand(2))
        expected = scheduler.step(predicted, t, expected, eta=1.0, variance_noise=_noise(number)).prev_sample
        torch.testing.assert_close(x_t, expected, atol=1e-4, rtol=1e-4)


def test_ddim_converges_to_the_closed_form_for_gaussian_data():
    schedule, mean, std = noise_schedule("linear"), 1.2, 0.5

    def predict(x_t, timestep):
        alpha_bar = schedule.alpha_bars[int(timestep[0])]
        return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * mean) / (alpha_bar * std**2 + 1 - alpha_bar)

    *_, x = ddim(predict, _noise().double(), schedule=schedule, num_steps=500)
    torch.testing.assert_close(x, mean + std * _noise().double(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("num_steps", [0, -3, 1001])
def test_impossible_numbers_of_steps_are_refused(num_steps):
    with pytest.raises(BadDataError, match="1 to 1000 steps"):
        ddim_steps(num_steps, 1000)
