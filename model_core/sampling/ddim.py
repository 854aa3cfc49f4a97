"""DDIM for noise-predicting networks, deterministic or with DDPM's noise (Song 2020, arXiv 2010.02502; P2)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from model_core.diffusion.losses import Denoiser
from model_core.diffusion.parameterisation import x0_from_noise
from model_core.diffusion.schedules import NoiseSchedule
from model_core.errors import BadDataError


def ddim_steps(num_steps: int, num_timesteps: int) -> list[int]:
    """Returns the steps to visit, from high to low: multiples of ``T // num_steps`` ("leading" spacing).

    Raises:
        BadDataError: Fewer than one step, or more than the schedule has.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise BadDataError(f"sampling takes 1 to {num_timesteps} steps, not {num_steps}", hint="50 is usual")
    ratio = num_timesteps // num_steps
    return [ratio * index for index in reversed(range(num_steps))]


def ddim(
    predict: Denoiser,
    noise: Tensor,
    *,
    schedule: NoiseSchedule,
    num_steps: int,
    eta: float = 0.0,
    draw_noise: Callable[[], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Yields ``x_{t-1}`` after each step; the last is the sample (Song 2020, eq. 12 and 16).

    With ``eta=1`` and every step visited it is DDPM's reverse process (P2) with variance beta-tilde.

    Args:
        predict: The noise ``eps_theta(x_t, t)``.
        noise: Standard normal, [batch channels frames height width].
        schedule: The noise schedule of training.
        num_steps: Calls of the network.
        eta: Share of DDPM's noise that is added back.
        draw_noise: Source of that noise, of the shape of ``noise``; needed where ``eta`` is not 0.
    """
    steps = ddim_steps(num_steps, schedule.num_timesteps)
    ratio = schedule.num_timesteps // num_steps
    x_t = noise
    for t in steps:
        alpha_bar = float(schedule.alpha_bars[t])
        previous = float(schedule.alpha_bars[t - ratio]) if t >= ratio else 1.0
        predicted = predict(x_t, torch.full((len(x_t),), float(t), device=x_t.device))
        x_0 = x0_from_noise(x_t, predicted, alpha_bar**0.5, (1 - alpha_bar) ** 0.5)
        variance = eta**2 * (1 - previous) / (1 - alpha_bar) * (1 - alpha_bar / previous)
        x_t = previous**0.5 * x_0 + max(0.0, 1 - previous - variance) ** 0.5 * predicted
        if variance > 0 and draw_noise is not None:
            x_t = x_t + variance**0.5 * draw_noise()
        yield x_t
