"""Euler's and Heun's methods for rectified flow: from noise at t = 1 down to data at t = 0."""

import itertools
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.losses import Denoiser
from model_core.diffusion.parameterisation import to_x0
from model_core.sampling.points import Point, Points
from model_core.sampling.steps import SamplerStep, timesteps_like

Latents = Float[Tensor, "batch channels frames height width"]


def euler(predict: Denoiser, x_t: Latents, points: Points) -> Iterator[SamplerStep]:
    """Yields ``x_{t'} = x_t + (t' - t) v(x_t, t)`` after each step (Liu 2022, arXiv 2209.03003, §2.1).

    Args:
        predict: The velocity ``noise - x_0``.
        x_t: The state at the first point; standard normal noise at t = 1.
        points: From `flow_points`.
    """
    for step, (now, then) in enumerate(itertools.pairwise(points), start=1):
        velocity = predict(x_t, timesteps_like(x_t, now))
        x_0 = _x0(velocity, x_t, now)
        x_t = x_t + (then.sigma - now.sigma) * velocity
        yield SamplerStep(x_t=x_t, x_0=x_0, step=step, num_steps=len(points) - 1, timestep=now.timestep)


def heun(predict: Denoiser, x_t: Latents, points: Points) -> Iterator[SamplerStep]:
    """Yields the states of Heun's second-order method: Euler's step, then again with the mean of both ends' velocities.

    Two calls of the network a step, but one in the last: at t = 0 there is no noise left whose direction a network could tell
    (Karras 2022, arXiv 2206.00364, algorithm 1).

    Args:
        predict: The velocity ``noise - x_0``.
        x_t: The state at the first point; standard normal noise at t = 1.
        points: From `flow_points`.
    """
    for step, (now, then) in enumerate(itertools.pairwise(points), start=1):
        velocity = predict(x_t, timesteps_like(x_t, now))
        x_0 = _x0(velocity, x_t, now)
        dt = then.sigma - now.sigma
        following = x_t + dt * velocity
        if then.sigma > 0:
            following = x_t + dt * (velocity + predict(following, timesteps_like(x_t, then))) / 2
        x_t = following
        yield SamplerStep(x_t=x_t, x_0=x_0, step=step, num_steps=len(points) - 1, timestep=now.timestep)


def _x0(velocity: Tensor, x_t: Tensor, point: Point) -> Tensor:
    return to_x0("velocity", velocity, x_t, point.signal, point.sigma)
