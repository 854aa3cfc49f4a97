"""Noise schedules: how much of the signal is left at each of T steps (P1; Ho 2020, arXiv 2006.11239).

Steps count from 0 to T - 1; a paper's step t is our t - 1. All numbers are float64 on the CPU.
"""

import math
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_core.diffusion.broadcast import per_sample
from model_core.diffusion.names import ScheduleName

_MAX_BETA = 0.999


def linear_betas(num_timesteps: int, *, start: float = 1e-4, end: float = 0.02) -> Float[Tensor, "T"]:
    """Returns betas that rise linearly, in float64 (Ho 2020, §4).

    ``start`` and ``end`` hold for 1,000 steps and are scaled for other numbers, so that as little signal is left at the end.
    """
    scale = 1000 / num_timesteps
    return torch.linspace(scale * start, min(scale * end, _MAX_BETA), num_timesteps, dtype=torch.float64)


def scaled_linear_betas(num_timesteps: int, *, start: float = 0.00085, end: float = 0.012) -> Float[Tensor, "T"]:
    """Returns betas whose square roots rise linearly, in float64: latent diffusion's (Rombach 2021, arXiv 2112.10752).

    ``start`` and ``end`` hold for 1,000 steps and are scaled for other numbers, as for ``linear_betas``.
    """
    scale = 1000 / num_timesteps
    return torch.linspace((scale * start) ** 0.5, min(scale * end, _MAX_BETA) ** 0.5, num_timesteps, dtype=torch.float64).square()


def cosine_betas(num_timesteps: int, *, offset: float = 0.008) -> Float[Tensor, "T"]:
    """Returns betas for which alpha_bar falls as a squared cosine, in float64 (Nichol & Dhariwal 2021, eq. 17)."""
    time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    return _betas_of(torch.cos((time + offset) / (1 + offset) * math.pi / 2).square())


def sigmoid_betas(num_timesteps: int, *, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Float[Tensor, "T"]:
    """Returns betas for which alpha_bar falls as a sigmoid, in float64 (Jabri 2022, arXiv 2212.11972).

    Chen 2023 (arXiv 2301.10972, algorithm 1) writes it out; ``tau`` below 1 keeps more of the signal early and less of it late.
    Another schedule goes by this name: betas, not alpha_bar, that rise as a sigmoid (Xu 2022, arXiv 2203.02923; diffusers'
    ``sigmoid``). It keeps far less signal half-way.
    """
    time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    low, high = _sigmoid(start / tau), _sigmoid(end / tau)
    return _betas_of((high - torch.sigmoid((time * (end - start) + start) / tau)) / (high - low))


def zero_terminal_snr_betas(betas: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """Returns betas that leave no signal after the last step and as much as before after the first one.

    ``sqrt(alpha_bar)`` is shifted and scaled (Lin 2023, arXiv 2305.08891, algorithm 1); the last beta is exactly 1.

    Raises:
        ValueError: Fewer than two steps: one cannot be first and last.
    """
    if len(betas) < 2:
        raise ValueError("a noise schedule with zero terminal SNR needs at least two steps")
    signals = torch.cumprod(1 - betas, dim=0).sqrt()
    rescaled = (signals - signals[-1]) * signals[0] / (signals[0] - signals[-1])
    alpha_bars = rescaled.square()
    return 1 - alpha_bars / torch.cat([alpha_bars.new_ones(1), alpha_bars[:-1]])


@dataclass(frozen=True, kw_only=True, eq=False)  # tensors have no truth value
class NoiseSchedule:
    """Betas and what follows from them.

    Attributes:
        betas: Variance added at each step, float64 [T].
        alpha_bars: ``prod_{i<=t} (1 - beta_i)``: the share of the signal's variance left after step t, float64 [T].
    """

    betas: Tensor
    alpha_bars: Tensor

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.betas)

    @property
    def signals(self) -> Float[Tensor, "T"]:
        """``sqrt(alpha_bar)``: the factor of x_0 in x_t."""
        return self.alpha_bars.sqrt()

    @property
    def sigmas(self) -> Float[Tensor, "T"]:
        """``sqrt(1 - alpha_bar)``: the factor of the noise in x_t."""
        return (1 - self.alpha_bars).sqrt()

    @property
    def previous_alpha_bars(self) -> Float[Tensor, "T"]:
        """``alpha_bar_{t-1}``; 1 before the first step."""
        return torch.cat([self.alpha_bars.new_ones(1), self.alpha_bars[:-1]])

    def at(
        self, t: Int[Tensor, "batch *frames"], values: Float[Tensor, "T"], like: Float[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch ..."]:
        """Returns the values at steps t as `per_sample` shapes them, in the dtype and on the device of ``like``.

        Raises:
            ValueError: A step outside 0 to T - 1.
        """
        steps = t.to(values.device)
        if len(steps) and not 0 <= int(steps.min()) <= int(steps.max()) < self.num_timesteps:
            wrong = next(step for step in steps.flatten().tolist() if not 0 <= step < self.num_timesteps)
            raise ValueError(f"step {wrong} is out of range: the noise schedule has steps 0 to {self.num_timesteps - 1}")
        return per_sample(values[steps], like)


def noise_schedule(name: ScheduleName = "linear", num_timesteps: int = 1000, zero_terminal_snr: bool = False) -> NoiseSchedule:
    """Returns a schedule by name.

    Args:
        name: How fast the signal goes.
        num_timesteps: T.
        zero_terminal_snr: Rescale it so that nothing of the signal is left at the last step (Lin 2023).

    Raises:
        ValueError: An unknown name, fewer than one step, or fewer than two with zero terminal SNR.
    """
    if num_timesteps < 1:
        raise ValueError(f"a noise schedule needs at least one step, not {num_timesteps}")
    match name:
        case "linear":
            betas = linear_betas(num_timesteps)
        case "cosine":
            betas = cosine_betas(num_timesteps)
        case "scaled_linear":
            betas = scaled_linear_betas(num_timesteps)
        case "sigmoid":
            betas = sigmoid_betas(num_timesteps)
        case _:
            raise ValueError(f"no noise schedule is called {name!r}; there are {', '.join(get_args(ScheduleName))}")
    if zero_terminal_snr:
        betas = zero_terminal_snr_betas(betas)
    return NoiseSchedule(betas=betas, alpha_bars=torch.cumprod(1 - betas, dim=0))


def _betas_of(alpha_bars: Float[Tensor, "T_plus_1"]) -> Float[Tensor, "T"]:
    """Returns the betas between values of alpha_bar at 0, 1/T, ..., 1, kept below 1 (Nichol & Dhariwal 2021, §3.2)."""
    return (1 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=_MAX_BETA)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
