import math

import pytest
import torch

from model_core.diffusion.forward import interpolate, q_sample, q_step
from model_core.diffusion.schedules import noise_schedule


def test_marginal_has_the_moments_of_p1():
    schedule = noise_schedule("linear", 100)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((4000, 2, 1, 2, 2), 1.5)
    t = torch.full((4000,), 30)
    x_t = q_sample(x_0, torch.randn(x_0.shape, generator=generator), t, schedule)
    alpha_bar = float(schedule.alpha_bars[30])
    assert float(x_t.mean()) == pytest.approx(1.5 * math.sqrt(alpha_bar), abs=0.02)
    assert float(x_t.var()) == pytest.approx(1 - alpha_bar, rel=0.03)


def test_single_steps_in_a_row_have_the_moments_of_the_marginal():
    schedule = noise_schedule("cosine", 20)
    generator = torch.Generator().manual_seed(1)
    x = torch.full((4000, 2, 1, 2, 2), 1.5)
    for step in range(15):
        x = q_step(x, torch.randn(x.shape, generator=generator), torch.full((4000,), step), schedule)
    alpha_bar = float(schedule.alpha_bars[14])
    assert float(x.mean()) == pytest.approx(1.5 * math.sqrt(alpha_bar), abs=0.02)
    assert float(x.var()) == pytest.approx(1 - alpha_bar, rel=0.03)


def test_noising_agrees_with_diffusers_for_every_step():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    generator = torch.Generator().manual_seed(2)
    t = torch.arange(0, 1000, 7)
    x_0, noise = torch.randn(2, len(t), 3, 1, 2, 2, generator=generator)
    expected = scheduler.add_noise(x_0, noise, t)
    torch.testing.assert_close(q_sample(x_0, noise, t, noise_schedule("linear")), expected, atol=3e-6, rtol=1e-4)


def test_the_straight_path_joins_data_to_noise():
    x_0, noise = torch.randn(2, 3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(3))
    x_t = interpolate(x_0, noise, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(x_t[0], x_0[0])
    torch.testing.assert_close(x_t[1], 0.75 * x_0[1] + 0.25 * noise[1])
    torch.testing.assert_close(x_t[2], noise[2])


@pytest.mark.parametrize("step", [-1, 100])
def test_a_step_outside_the_schedule_is_refused(step):
    x_0, t = torch.zeros(2, 1, 1, 2, 2), torch.tensor([0, step])
    for noise_it in (q_sample, q_step):
        with pytest.raises(ValueError, match=f"step {step} is out of range"):
            noise_it(x_0, x_0, t, noise_schedule("linear", 100))


def test_the_last_step_of_zero_terminal_snr_is_the_noise_itself():
    x_0, noise = torch.randn(2, 3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(4))
    x_t = q_sample(x_0, noise, torch.full((3,), 99), noise_schedule("linear", 100, zero_terminal_snr=True))
    assert torch.equal(x_t, noise)
