"""The forward process: from a clean latent to noise (P1), and the straight path of rectified flow.

Shape legend: x_0, x_t, noise are [batch channels frames height width].
"""

from jaxtyping import Float, Int
from torch import Tensor

from model_core.diffusion.broadcast import per_sample
from model_core.diffusion.schedules import NoiseSchedule

Latents = Float[Tensor, "batch channels frames height width"]


def q_step(x_previous: Latents, noise: Latents, t: Int[Tensor, "batch"], schedule: NoiseSchedule) -> Latents:
    """Draws from ``q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I)`` (P1; Ho 2020, arXiv 2006.11239, eq. 2).

    Raises:
        ValueError: A step that the schedule does not have.
    """
    beta = schedule.at(t, schedule.betas, x_previous)
    return (1 - beta).sqrt() * x_previous + beta.sqrt() * noise


def q_sample(x_0: Latents, noise: Latents, t: Int[Tensor, "batch"], schedule: NoiseSchedule) -> Latents:
    """Draws from ``q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I)`` (P1; Ho 2020, arXiv 2006.11239, eq. 4).

    Args:
        x_0: Clean latents.
        noise: Standard normal, of the same shape.
        t: Steps, 0 to T - 1.
        schedule: The noise schedule.

    Raises:
        ValueError: A step that the schedule does not have.
    """
    return schedule.at(t, schedule.signals, x_0) * x_0 + schedule.at(t, schedule.sigmas, x_0) * noise


def interpolate(x_0: Latents, noise: Latents, t: Float[Tensor, "batch"]) -> Latents:
    """Returns ``x_t = (1 - t) x_0 + t noise`` for t in [0, 1] (Liu 2022, arXiv 2209.03003; Esser 2024, eq. 13)."""
    t = per_sample(t, x_0)
    return (1 - t) * x_0 + t * noise
