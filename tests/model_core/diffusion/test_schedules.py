import pytest
import torch

from model_core.diffusion.schedules import cosine_betas, linear_betas, noise_schedule


def test_linear_schedule_is_diffusers_linear():
    from diffusers import DDIMScheduler

    expected = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02).alphas_cumprod
    torch.testing.assert_close(noise_schedule("linear").alpha_bars.float(), expected, atol=2e-6, rtol=1e-4)


def test_cosine_schedule_is_diffusers_cosine():
    from diffusers import DDIMScheduler

    expected = DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").betas
    torch.testing.assert_close(cosine_betas(1000).float(), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("num_timesteps", [1, 10, 100, 4000])
def test_little_signal_is_left_at_the_end_whatever_the_number_of_steps(num_timesteps):
    betas = linear_betas(num_timesteps)
    assert ((betas > 0) & (betas < 1)).all()
    if num_timesteps >= 100:
        assert torch.prod(1 - betas) < 1e-4


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_share_of_signal_only_falls(name):
    alpha_bars = noise_schedule(name, 200).alpha_bars
    assert (alpha_bars.diff() < 0).all()
    assert 0 < alpha_bars[-1] < alpha_bars[0] < 1


def test_a_schedule_of_no_steps_or_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="at least one step"):
        noise_schedule("linear", 0)
    with pytest.raises(ValueError, match="sigmoidal"):
        noise_schedule("sigmoidal")
