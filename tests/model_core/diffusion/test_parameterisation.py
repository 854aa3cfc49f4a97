import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.forward import interpolate
from model_core.diffusion.parameterisation import (
    flow_velocity,
    noise_from_velocity,
    noise_from_x0,
    x0_from_noise,
    x0_from_velocity,
)

SHAPE = (2, 3, 1, 2, 2)


def _draw(seed):
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 1000), signal=st.floats(0.1, 1), sigma=st.floats(0.1, 1))
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
