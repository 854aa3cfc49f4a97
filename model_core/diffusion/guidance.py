"""Classifier-free guidance (P8; Ho & Salimans 2022, arXiv 2207.12598), constant, in an interval of times, or rescaled.

It applies to every latent channel; guiding three of four, as a widely copied reference does, mixes two models in one sample.
Learnt variances are the conditional prediction's: they are no direction that could be followed further.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model_core.diffusion.broadcast import per_sample
from model_core.diffusion.condition import Condition
from model_core.diffusion.losses import Denoiser
from model_core.diffusion.parameterisation import FLOW_TIME_SCALE
from model_core.errors import BadDataError

ConditionalDenoiser = Callable[[Tensor, Tensor, Condition], Tensor]
"""``(x_t, timestep, condition) -> prediction``."""

Latents = Float[Tensor, "batch channels frames height width"]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly, when, and with what correction a sample is led towards its condition.

    Attributes:
        scale: s of P8: 1 follows the condition as trained, more does so more strongly, 0 ignores it, less leads away.
        interval: First and last time at which s holds, as shares of all time from 0 (data) to 1 (noise), both included; outside
            the condition is followed as trained (Kynkaanniemi 2024, arXiv 2404.07724). None guides always.
        rescale: phi: 0 leaves the guided prediction as it is, 1 gives each sample's the standard deviation of the conditional
            prediction, which a large scale inflates (Lin 2023, arXiv 2305.08891, §3.4). At scale 0 there is none to go by.

    Raises:
        BadDataError: A scale that is not finite, no interval within 0 to 1, or a rescale outside 0 to 1.
    """

    scale: float = 1.0
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        """Refuses numbers that mean nothing."""
        if not math.isfinite(self.scale):
            raise BadDataError(f"the guidance scale is {self.scale}", hint="choose a finite number; 3 is usual")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1] <= 1:
            low, high = self.interval
            raise BadDataError(
                f"the guidance interval is {low} to {high}", hint="give two times from 0 (data) to 1 (noise), the lower one first"
            )
        if not 0 <= self.rescale <= 1:
            raise BadDataError(f"guidance rescale is {self.rescale}", hint="choose 0 (none) to 1 (full); 0.7 is usual")


def classifier_free_guidance(conditional: Latents, unconditional: Latents, scale: float | Float[Tensor, "..."]) -> Latents:
    """Returns ``eps(x_t, null) + s (eps(x_t, c) - eps(x_t, null))`` (P8); it holds for velocities alike, being linear."""
    return unconditional + scale * (conditional - unconditional)


def rescaled(guided: Latents, conditional: Latents, phi: float) -> Latents:
    """Returns ``phi std(conditional) / std(guided) guided + (1 - phi) guided``, stds of each sample (Lin 2023, §3.4)."""
    dims = tuple(range(1, guided.ndim))
    found = guided.std(dim=dims, correction=0, keepdim=True)
    wanted = conditional.std(dim=dims, correction=0, keepdim=True)
    factor = torch.where(found > 0, wanted / found, torch.ones_like(found))  # a constant has no spread to correct
    return guided * (phi * factor + (1 - phi))


def guided_denoiser(
    predict: ConditionalDenoiser,
    condition: Condition,
    *,
    num_labels: int,
    guidance: Guidance,
    num_timesteps: float = FLOW_TIME_SCALE,
) -> Denoiser:
    """Returns a denoiser that follows a condition under guidance.

    Where s is 1 (or the time outside the interval) the unconditional half is not computed, where it is 0 the conditional one is
    not; else both go through the network as one batch of twice the size.

    Args:
        predict: The network. Of outputs with twice the channels of x_t the first half is guided.
        condition: Conditions of the batch to sample.
        num_labels: The label that means none.
        guidance: Scale, interval, rescale.
        num_timesteps: The timestep that stands for time 1.
    """
    null = condition.null(num_labels)
    both = condition.followed_by(null)

    def conditioned(x_t: Tensor, timestep: Tensor) -> Tensor:
        return predict(x_t, timestep, condition)

    def unconditioned(x_t: Tensor, timestep: Tensor) -> Tensor:
        return predict(x_t, timestep, null)

    def guided(x_t: Tensor, timestep: Tensor) -> Tensor:
        scale: float | Tensor = guidance.scale
        if guidance.interval is not None:
            inside = _inside(timestep / num_timesteps, guidance.interval)
            if not bool(inside.any()):
                return conditioned(x_t, timestep)
            if not bool(inside.all()):
                scale = per_sample(torch.where(inside, guidance.scale, 1.0), x_t)
        if isinstance(scale, float | int) and scale == 0:
            return unconditioned(x_t, timestep)
        output = predict(torch.cat([x_t, x_t]), torch.cat([timestep, timestep]), both)
        conditional, unconditional = output.chunk(2)
        channels = x_t.shape[1]
        prediction = classifier_free_guidance(conditional[:, :channels], unconditional[:, :channels], scale)
        if guidance.rescale:
            prediction = rescaled(prediction, conditional[:, :channels], guidance.rescale)
        return torch.cat([prediction, conditional[:, channels:]], dim=1) if output.shape[1] > channels else prediction

    return conditioned if guidance.scale == 1 else guided


def _inside(time: Float[Tensor, "batch"], interval: tuple[float, float]) -> Bool[Tensor, "batch"]:
    """Returns which times lie in an interval; a rounding of single precision keeps its ends inside."""
    low, high = interval
    slack = 1e-6
    return (time >= low - slack) & (time <= high + slack)
