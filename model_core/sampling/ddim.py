"""DDIM, deterministic or with DDPM's noise (Song 2020, arXiv 2010.02502; P2)."""

import itertools
import math
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from model_core.errors import BadDataError
from model_core.sampling.points import Points
from model_core.sampling.steps import DrawNoise, Estimator, SamplerStep

Latents = Float[Tensor, "batch channels frames height width"]


def ddim(
    estimate: Estimator, x_t: Latents, points: Points, *, eta: float = 0.0, draw_noise: DrawNoise | None = None
) -> Iterator[SamplerStep]:
    """Yields the states ``signal' x_0 + sqrt(sigma'^2 - s^2) noise + s z`` after each step (Song 2020, eq. 12 and 16).

    With ``eta=1`` it is DDPM's reverse process (P2) with variance beta-tilde. With ``eta=0`` each step follows the path as if
    x_0 and noise stayed as estimated, which is right to first order on any path; for rectified flow that is Euler's step.

    Args:
        estimate: What the network says of x_0 and noise.
        x_t: The state at the first point; standard normal where that is pure noise.
        points: The points to visit.
        eta: Share of DDPM's noise that is added back.
        draw_noise: Source of z; needed where ``eta`` is not 0.

    Raises:
        BadDataError: An eta below 0 or above 1.
        ValueError: Noise is to be added and there is no source of it.
    """
    if not 0 <= eta <= 1:
        raise BadDataError(f"eta is {eta}", hint="choose 0 (deterministic) to 1 (all of DDPM's noise)")
    if eta and draw_noise is None:
        raise ValueError("ddim with eta above 0 needs draw_noise")
    for step, (now, then) in enumerate(itertools.pairwise(points), start=1):
        found = estimate(x_t, now)
        ratio = now.signal / then.signal
        variance = (eta * then.sigma / now.sigma) ** 2 * (1 - ratio**2)
        direction = math.sqrt(max(0.0, then.sigma * then.sigma - variance))
        x_t = then.signal * found.x_0 + direction * found.noise
        if variance > 0 and draw_noise is not None:
            x_t = x_t + variance**0.5 * draw_noise()
        yield SamplerStep(x_t=x_t, x_0=found.x_0, step=step, num_steps=len(points) - 1, timestep=now.timestep)
