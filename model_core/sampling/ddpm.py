"""DDPM's ancestral sampling: the reverse process itself, noise and all (P2; Ho 2020, arXiv 2006.11239, algorithm 2)."""

import itertools
import math
from collections.abc import Iterator
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from model_core.sampling.points import Point, Points
from model_core.sampling.steps import DrawNoise, Estimate, Estimator, SamplerStep

Latents = Float[Tensor, "batch channels frames height width"]
FixedVariance = Literal["small", "large"]


def ddpm(
    estimate: Estimator, x_t: Latents, points: Points, *, draw_noise: DrawNoise, variance: FixedVariance = "small"
) -> Iterator[SamplerStep]:
    """Yields ``x_{t-1} ~ N(mu_theta(x_t, t), Sigma_theta(x_t, t))`` after each step; the last adds no noise.

    The mean is that of ``q(x_{t-1} | x_t, x_0)`` at the estimate of x_0 (Ho 2020, eq. 7). Where fewer points are visited than the
    schedule has, beta is what lies between two of them (Nichol & Dhariwal 2021, arXiv 2102.09672, §4).

    Args:
        estimate: What the network says of x_0 and noise, and of the variance if it learns one.
        x_t: The state at the first point.
        points: The points to visit.
        draw_noise: Source of standard normal noise of the shape of x_t.
        variance: Which of the two fixed variances (Ho 2020, §3.2): beta-tilde (small) or beta (large); not read where the network
            learns variances.
    """
    for step, (now, then) in enumerate(itertools.pairwise(points), start=1):
        found = estimate(x_t, now)
        alpha = (now.signal / then.signal) ** 2
        x_t = (then.signal * (1 - alpha) * found.x_0 + math.sqrt(alpha) * then.sigma**2 * x_t) / now.sigma**2
        if then.sigma > 0:
            x_t = x_t + _standard_deviation(found, now, then, variance) * draw_noise()
        yield SamplerStep(x_t=x_t, x_0=found.x_0, step=step, num_steps=len(points) - 1, timestep=now.timestep)


def _standard_deviation(found: Estimate, now: Point, then: Point, variance: FixedVariance) -> Tensor | float:
    """Returns sqrt(Sigma): between beta-tilde and beta in log space where learnt (Nichol & Dhariwal 2021, eq. 15)."""
    beta = 1 - (now.signal / then.signal) ** 2
    beta_tilde = (then.sigma / now.sigma) ** 2 * beta
    if found.variance is None:
        return math.sqrt(beta if variance == "large" else beta_tilde)
    share = (found.variance + 1) / 2
    return (0.5 * (share * math.log(beta) + (1 - share) * math.log(beta_tilde))).exp()
