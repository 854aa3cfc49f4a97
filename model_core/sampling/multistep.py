"""Multistep solvers of second order for any network and path: DPM-Solver++(2M) and UniPC.

Both write the probability-flow ODE in ``lambda = log(signal / sigma)``, where its linear part has a closed form, and approximate
only x_0 as a function of lambda (Lu 2022, arXiv 2211.01095, proposition 4.1)::

    x_t = sigma_t / sigma_s x_s + sigma_t int_{lambda_s}^{lambda_t} e^lambda x_0(lambda) dlambda

One call of the network a step; x_0 of earlier steps serves again. s is the point left, t the point reached, h the way between.
At the ends lambda is infinite: from pure noise ``h`` is infinite and every quotient takes its limit; to data the step is of first
order, since x_0 there is the sample.
"""

import itertools
import math
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from model_core.sampling.points import Point, Points
from model_core.sampling.steps import Estimator, SamplerStep

Latents = Float[Tensor, "batch channels frames height width"]


def dpm_solver_pp(estimate: Estimator, x_t: Latents, points: Points) -> Iterator[SamplerStep]:
    """Yields the states of DPM-Solver++(2M) (Lu 2022, arXiv 2211.01095, algorithm 2).

    Args:
        estimate: What the network says of x_0.
        x_t: The state at the first point; standard normal where that is pure noise.
        points: The points to visit.
    """
    before: tuple[Point, Tensor] | None = None
    for step, (s, t) in enumerate(itertools.pairwise(points), start=1):
        x_0 = estimate(x_t, s).x_0
        extrapolated = x_0
        if before is not None and t.sigma > 0:
            extrapolated = x_0 + 0.5 * _slope(x_0, s, t, before)
        x_t = _first_order(x_t, extrapolated, s, t)
        before = (s, x_0)
        yield SamplerStep(x_t=x_t, x_0=x_0, step=step, num_steps=len(points) - 1, timestep=s.timestep)


def unipc(estimate: Estimator, x_t: Latents, points: Points) -> Iterator[SamplerStep]:
    """Yields the states of UniPC with UniP-2, UniC-2 and ``B(h) = e^h - 1``, for estimates of x_0 (Zhao 2023, arXiv 2302.04867).

    Before a step goes on from a point, x_0 estimated there corrects the step that led to it; the network is not asked again at
    the corrected state. The last step stands as predicted.

    Args:
        estimate: What the network says of x_0.
        x_t: The state at the first point; standard normal where that is pure noise.
        points: The points to visit.
    """
    last: tuple[Tensor, Point, Tensor] | None = None  # where the step that led here began: x_s, s, x_0
    before: tuple[Point, Tensor] | None = None  # what that step knew of x_0 before s
    for step, (s, t) in enumerate(itertools.pairwise(points), start=1):
        x_0 = estimate(x_t, s).x_0
        if last is not None:
            x_t = _corrected(*last, s, x_0, before)
            before = (last[1], last[2])
        last = (x_t, s, x_0)
        extrapolated = x_0
        if before is not None and t.sigma > 0:
            extrapolated = x_0 + 0.5 * _slope(x_0, s, t, before)
        x_t = _first_order(x_t, extrapolated, s, t)
        yield SamplerStep(x_t=x_t, x_0=x_0, step=step, num_steps=len(points) - 1, timestep=s.timestep)


def _first_order(x_s: Tensor, x_0: Tensor, s: Point, t: Point) -> Tensor:
    """Returns x_t as if x_0 were the same all the way: ``sigma_t / sigma_s x_s - signal_t (e^-h - 1) x_0``."""
    return (t.sigma / s.sigma) * x_s - t.signal * math.expm1(s.log_snr - t.log_snr) * x_0


def _slope(x_0: Tensor, s: Point, t: Point, before: tuple[Point, Tensor]) -> Tensor:
    """Returns the change of x_0 from s to t, were it linear in lambda."""
    earlier, x_0_earlier = before
    return (t.log_snr - s.log_snr) / (s.log_snr - earlier.log_snr) * (x_0 - x_0_earlier)


def _corrected(x_s: Tensor, s: Point, x_0: Tensor, t: Point, x_0_reached: Tensor, before: tuple[Point, Tensor] | None) -> Tensor:
    """Returns x_t again, now that x_0 is estimated there too (UniC-2, or UniC-1 where only s is known).

    The weights rho make it right to the order of the points known: rho_1 for the earlier one, rho_2 for the one reached.
    """
    h = t.log_snr - s.log_snr
    phi = -math.expm1(-h)  # B(h) for an estimate of x_0, its sign taken out
    if before is None:
        return _first_order(x_s, (x_0 + x_0_reached) / 2, s, t)
    k1 = (1 - phi / h) / phi  # shares of a change of x_0 linear, and quadratic, in lambda
    k2 = 2 * (0.5 - (1 - phi / h) / h) / phi
    earlier, x_0_earlier = before
    r = (earlier.log_snr - s.log_snr) / h
    rho_1 = (k1 - k2) / (1 - r)
    rho_2 = k1 - rho_1
    change = rho_1 / r * (x_0_earlier - x_0) + rho_2 * (x_0_reached - x_0)
    return _first_order(x_s, x_0 + change, s, t)
