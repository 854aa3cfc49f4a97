"""What a network predicts, and exact conversions between the forms.

For any path ``x_t = signal x_0 + sigma noise``: of x_0, noise and x_t, two determine the third. Rectified flow has
``signal = 1 - t``, ``sigma = t`` and predicts the velocity ``d x_t / dt = noise - x_0``.
"""

from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "batch channels frames height width"]
Coefficient = Float[Tensor, "..."] | float

FLOW_TIME_SCALE = 1000.0
"""A network sees times on the scale of 0 to 1,000 whatever the objective; rectified flow's t in [0, 1] is multiplied by this."""


def x0_from_noise(x_t: Latents, noise: Latents, signal: Coefficient, sigma: Coefficient) -> Latents:
    """Returns ``x_0 = (x_t - sigma noise) / signal`` (Ho 2020, eq. 15)."""
    return (x_t - sigma * noise) / signal


def noise_from_x0(x_t: Latents, x_0: Latents, signal: Coefficient, sigma: Coefficient) -> Latents:
    """Returns ``noise = (x_t - signal x_0) / sigma``."""
    return (x_t - signal * x_0) / sigma


def flow_velocity(x_0: Latents, noise: Latents) -> Latents:
    """Returns rectified flow's target ``noise - x_0`` (Liu 2022, arXiv 2209.03003, eq. 1, with time reversed)."""
    return noise - x_0


def x0_from_velocity(x_t: Latents, velocity: Latents, t: Coefficient) -> Latents:
    """Returns ``x_0 = x_t - t velocity`` on rectified flow's path."""
    return x_t - t * velocity


def noise_from_velocity(x_t: Latents, velocity: Latents, t: Coefficient) -> Latents:
    """Returns ``noise = x_t + (1 - t) velocity`` on rectified flow's path."""
    return x_t + (1 - t) * velocity
