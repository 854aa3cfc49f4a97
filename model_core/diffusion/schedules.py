"""Noise schedules: how much of the signal is left at each of T steps (Ho 2020, arXiv 2006.11239; P1 in THEORY.md)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

ScheduleName = Literal["linear", "cosine"]
_MAX_BETA = 0.999


def linear_betas(num_timesteps: int, *, start: float = 1e-4, end: float = 0.02) -> Float[Tensor, "T"]:
    """Returns betas that rise linearly, in float64 (Ho 2020, §4).

    ``start`` and ``end`` hold for 1,000 steps and are scaled for other numbers, so that as little signal is left at the end.
    """
    scale = 1000 / num_timesteps
    return torch.linspace(scale * start, min(scale * end, _MAX_BETA), num_timesteps, dtype=torch.float64)


def cosine_betas(num_timesteps: int, *, offset: float = 0.008) -> Float[Tensor, "T"]:
    """Returns betas for which alpha_bar falls as a squared cosine, in float64 (Nichol & Dhariwal 2021, eq. 17)."""
    time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    alpha_bar = torch.cos((time + offset) / (1 + offset) * math.pi / 2).square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=_MAX_BETA)


@dataclass(frozen=True, kw_only=True)
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


def noise_schedule(name: ScheduleName = "linear", num_timesteps: int = 1000) -> NoiseSchedule:
    """Returns a schedule by name.

    Raises:
        ValueError: An unknown name, or fewer than one step.
    """
    if num_timesteps < 1:
        raise ValueError(f"a noise schedule needs at least one step, not {num_timesteps}")
    if name == "linear":
        betas = linear_betas(num_timesteps)
    elif name == "cosine":
        betas = cosine_betas(num_timesteps)
    else:
        raise ValueError(f"no noise schedule is called {name!r}; there are linear and cosine")
    return NoiseSchedule(betas=betas, alpha_bars=torch.cumprod(1 - betas, dim=0))
