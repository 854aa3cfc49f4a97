"""The points that a sampler visits: from noise down to data along ``x_t = signal x_0 + sigma noise``."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from model_core.diffusion.parameterisation import FLOW_TIME_SCALE
from model_core.diffusion.schedules import NoiseSchedule
from model_core.errors import BadDataError
from model_core.sampling.names import Spacing


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a path.

    Attributes:
        timestep: What the network is told, on its scale of 0 to 1,000.
        signal: Factor of x_0 in x_t, from 0 to 1.
        sigma: Factor of the noise in x_t, from 1 to 0.
    """

    timestep: float
    signal: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """Half the logarithm of the signal-to-noise ratio, ``lambda = log(signal / sigma)`` (Lu 2022, arXiv 2206.00927).

        Minus infinity at pure noise, plus infinity at data: the solvers take both limits.
        """
        if self.sigma == 0:
            return math.inf
        return math.log(self.signal) - math.log(self.sigma) if self.signal > 0 else -math.inf


DATA = Point(timestep=0.0, signal=1.0, sigma=0.0)
"""The end of every path; no network is asked there."""

Points = tuple[Point, ...]
"""Points from high to low noise, the last of them `DATA`: one more than there are steps."""


def flow_time(t: float) -> Point:
    """Returns rectified flow's point at a time t in [0, 1] (Liu 2022, arXiv 2209.03003)."""
    return Point(timestep=FLOW_TIME_SCALE * t, signal=1 - t, sigma=t)


def flow_points(num_steps: int, *, shift: float | None = None) -> Points:
    """Returns ``num_steps + 1`` points of rectified flow, evenly in time from 1 to 0 before the shift.

    Args:
        num_steps: Steps to take.
        shift: Moves times to ``shift t / (1 + (shift - 1) t)``: above 1 more steps are taken where there is much noise, which
            latents of more positions need (Esser 2024, arXiv 2403.03206, §5.3.2, eq. 23, whose sqrt(m/n) this is).

    Raises:
        BadDataError: Fewer than one step, or a shift that is not a number above 0.
    """
    if num_steps < 1:
        raise BadDataError(f"sampling needs at least one step, not {num_steps}", hint="choose 1 or more; 20 is usual")
    times: Iterable[float] = (1 - step / num_steps for step in range(num_steps + 1))
    if shift is not None:
        if not (math.isfinite(shift) and shift > 0):
            raise BadDataError(
                f"the time shift is {shift}", hint="choose a number above 0; 1 changes nothing, 3 is usual for large"
            )
        times = (shift * t / (1 - t + shift * t) for t in times)
    return tuple(flow_time(t) for t in times)


def spaced_timesteps(num_steps: int, num_timesteps: int, spacing: Spacing) -> list[int]:
    """Returns the steps of a schedule to visit, from high to low (Lin 2023, arXiv 2305.08891, table 2).

    `leading` takes multiples of ``T // num_steps`` from 0 and so never starts at the last step; `trailing` counts down from the
    last; `linspace` takes both ends.

    Raises:
        BadDataError: Fewer than one step, or more than the schedule has.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise BadDataError(f"sampling takes 1 to {num_timesteps} steps, not {num_steps}", hint="50 is usual")
    if spacing == "leading":
        ratio = num_timesteps // num_steps
        return [ratio * index for index in reversed(range(num_steps))]
    if spacing == "trailing":
        return [round(num_timesteps - index * num_timesteps / num_steps) - 1 for index in range(num_steps)]
    if num_steps == 1:
        return [num_timesteps - 1]
    return [round(index * (num_timesteps - 1) / (num_steps - 1)) for index in reversed(range(num_steps))]


def schedule_points(schedule: NoiseSchedule, num_steps: int, *, spacing: Spacing = "trailing") -> Points:
    """Returns ``num_steps`` points of a noise schedule and then `DATA`.

    Args:
        schedule: The noise schedule of training.
        num_steps: Steps to take.
        spacing: Which of the schedule's steps they are; `trailing` starts where training's noise was strongest, which a schedule
            without signal there (Lin 2023, §3.1) cannot do without.

    Raises:
        BadDataError: Fewer than one step, or more than the schedule has.
    """
    visited = []
    for t in spaced_timesteps(num_steps, schedule.num_timesteps, spacing):
        alpha_bar = float(schedule.alpha_bars[t])
        visited.append(Point(timestep=float(t), signal=alpha_bar**0.5, sigma=(1 - alpha_bar) ** 0.5))
    return (*visited, DATA)


def part_way(points: Points, strength: float) -> Points:
    """Returns the last part of a path, for a start from noised data (SDEdit: Meng 2021, arXiv 2108.01073, §3.2).

    Args:
        points: The whole path.
        strength: Share of its steps to take, above 0 and up to 1, rounded to whole steps and at least one.
    """
    num_steps = len(points) - 1
    return points[num_steps - max(1, round(strength * num_steps)) :]
