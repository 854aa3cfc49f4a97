"""The variational bound on the negative log-likelihood, and its terms (P3).

``-log p_theta(x_0) <= L_T + sum_{t>1} L_{t-1} + L_0`` (Ho 2020, arXiv 2006.11239, eq. 5). Terms are in bits per dimension.

Shape legend: x_0, noise, x_t, means and log variances are [batch channels frames height width]; terms are [batch].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from model_core.diffusion.forward import q_sample
from model_core.diffusion.reverse import Gaussian, ReverseProcess, posterior
from model_core.diffusion.schedules import NoiseSchedule

Latents = Float[Tensor, "batch channels frames height width"]


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How ``p_theta(x_0 | x_1)`` gives data a probability: the last step of the reverse process.

    Attributes:
        bin_width: Distance of neighbouring values of the data; None for continuous data, whose density counts.
        support: Least and greatest value, whose bins are open outwards; None where the data has no end.
    """

    bin_width: float | None
    support: tuple[float, float] | None = None


PIXELS = Decoder(bin_width=2 / 255, support=(-1.0, 1.0))
"""Bytes mapped to [-1, 1] (Ho 2020, §3.3)."""
LATENTS = Decoder(bin_width=2 / 255)
"""Latents, which have no end, in bins as wide."""
CONTINUOUS = Decoder(bin_width=None)
"""A density instead of a probability: the bound is then one on the differential entropy, and can be negative."""


@dataclass(frozen=True, kw_only=True)
class BoundTerms:
    """The bound of P3, term by term, in bits per dimension.

    Attributes:
        prior: L_T: how far ``q(x_T | x_0)`` is from N(0, I), [batch].
        steps: L_0 (the decoder's negative log-likelihood) at place 0, then L_1 to L_{T-1}, [batch T].
    """

    prior: Tensor
    steps: Tensor

    @property
    def total(self) -> Float[Tensor, "batch"]:
        """The bound."""
        return self.prior + self.steps.sum(dim=1)


def gaussian_kl(p: Gaussian, q: Gaussian) -> Float[Tensor, "..."]:
    """Returns ``KL(p || q)`` of each number in nats: every L_t of the bound but L_0 (P3; Ho 2020, §3)."""
    difference = p.log_variance - q.log_variance
    return 0.5 * (difference.exp() - 1 - difference + (p.mean - q.mean).square() * (-q.log_variance).exp())


def discretised_gaussian_log_likelihood(x: Latents, p: Gaussian, decoder: Decoder = PIXELS) -> Latents:
    """Returns the log-probability in nats of the bin about each number: the L_0 term (P3; Ho 2020, eq. 13).

    It is exact in the tails, where the difference of two cumulative probabilities would round to nothing.

    Raises:
        ValueError: A decoder without bins.
    """
    if decoder.bin_width is None:
        raise ValueError("a decoder without bins gives a density, no probability")
    std = (0.5 * p.log_variance).exp()
    low, high = (x - decoder.bin_width / 2 - p.mean) / std, (x + decoder.bin_width / 2 - p.mean) / std
    inside = _log_interval(low, high)
    if decoder.support is None:
        return inside
    least, greatest = decoder.support
    margin = decoder.bin_width / 4  # values of the data lie on bins' centres, give or take rounding
    inside = torch.where(x <= least + margin, torch.special.log_ndtr(high), inside)
    return torch.where(x >= greatest - margin, torch.special.log_ndtr(-low), inside)


def gaussian_log_density(x: Latents, p: Gaussian) -> Latents:
    """Returns the log-density of each number in nats: L_0 for continuous data."""
    return -0.5 * (math.log(2 * math.pi) + p.log_variance + (x - p.mean).square() * (-p.log_variance).exp())


def prior_term(x_0: Latents, schedule: NoiseSchedule) -> Float[Tensor, "batch"]:
    """Returns L_T, ``KL(q(x_T | x_0) || N(0, I))`` (P3; Ho 2020, eq. 5): 0 where the schedule leaves no signal."""
    alpha_bar = float(schedule.alpha_bars[-1])
    variance = torch.full_like(x_0, 1 - alpha_bar)
    end = Gaussian(mean=alpha_bar**0.5 * x_0, log_variance=variance.log())
    return bits_per_dimension(gaussian_kl(end, Gaussian(mean=torch.zeros_like(x_0), log_variance=torch.zeros_like(x_0))))


def step_term(
    p: Gaussian, x_0: Latents, x_t: Latents, t: Int[Tensor, "batch"], schedule: NoiseSchedule, decoder: Decoder
) -> Float[Tensor, "batch"]:
    """Returns L_{t-1} = ``KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t))``, and L_0 at step 0 (P3; Ho 2020, eq. 5).

    Args:
        p: The reverse process at x_t.
        x_0: Clean latents.
        x_t: The same, noised to step t.
        t: Steps, 0 to T - 1.
        schedule: The noise schedule.
        decoder: How the last step gives the data a probability.
    """
    divergence = bits_per_dimension(gaussian_kl(posterior(x_0, x_t, t, schedule), p))
    density = gaussian_log_density(x_0, p) if decoder.bin_width is None else discretised_gaussian_log_likelihood(x_0, p, decoder)
    return torch.where(t.to(x_0.device) == 0, bits_per_dimension(-density), divergence)


@torch.no_grad()
def vlb_terms(
    reverse: ReverseProcess,
    x_0: Latents,
    schedule: NoiseSchedule,
    *,
    draw_noise: Callable[[], Tensor],
    decoder: Decoder = PIXELS,
) -> BoundTerms:
    """Returns every term of the bound (P3; Ho 2020, eq. 5), each from one draw of x_t; it calls the network T times.

    Args:
        reverse: The reverse process.
        x_0: Clean latents.
        schedule: The noise schedule.
        draw_noise: Source of standard normal noise of the shape of x_0.
        decoder: How the last step gives the data a probability.
    """
    steps = []
    for step in range(schedule.num_timesteps):
        t = torch.full((len(x_0),), step, device=x_0.device)
        x_t = q_sample(x_0, draw_noise(), t, schedule)
        steps.append(step_term(reverse(x_t, t), x_0, x_t, t, schedule, decoder))
    return BoundTerms(prior=prior_term(x_0, schedule), steps=torch.stack(steps, dim=1))


def bits_per_dimension(nats: Latents) -> Float[Tensor, "batch"]:
    """Returns the mean over a sample's numbers, in bits."""
    mean: Tensor = reduce(nats, "batch channels frames height width -> batch", "mean")
    return mean / math.log(2)


def _log_interval(low: Tensor, high: Tensor) -> Tensor:
    """Returns ``log(Phi(high) - Phi(low))``, computed in the lower tail, where the cumulative probability keeps its digits."""
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_low: Tensor = torch.special.log_ndtr(low)
    log_high: Tensor = torch.special.log_ndtr(high)
    share = -torch.expm1(log_low - log_high)
    return share.clamp(min=torch.finfo(share.dtype).tiny).log() + log_high
