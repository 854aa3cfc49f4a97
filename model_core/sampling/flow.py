"""Euler's method for rectified flow: from noise at t = 1 down to data at t = 0."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from model_core.diffusion.losses import Denoiser
from model_core.diffusion.parameterisation import FLOW_TIME_SCALE
from model_core.errors import BadDataError


def flow_times(num_steps: int) -> list[float]:
    """Returns ``num_steps + 1`` times, evenly from 1 to 0.

    Raises:
        BadDataError: Fewer than one step.
    """
    if num_steps < 1:
        raise BadDataError(f"sampling needs at least one step, not {num_steps}", hint="choose 1 or more; 20 is usual")
    return [1 - step / num_steps for step in range(num_steps + 1)]


def euler_flow(predict: Denoiser, noise: Tensor, *, num_steps: int) -> Iterator[Tensor]:
    """Yields ``x_{t'} = x_t + (t' - t) v(x_t, t)`` after each step; the last is the sample (Liu 2022, arXiv 2209.03003, §2.1).

    Args:
        predict: The velocity ``noise - x_0``.
        noise: Standard normal, [batch channels frames height width].
        num_steps: Calls of the network.
    """
    times = flow_times(num_steps)
    x_t = noise
    for now, then in itertools.pairwise(times):
        timestep = torch.full((len(x_t),), FLOW_TIME_SCALE * now, device=x_t.device)
        x_t = x_t + (then - now) * predict(x_t, timestep)
        yield x_t
