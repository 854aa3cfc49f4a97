"""What samplers ask of a network and what they tell after each step.

Shape legend: x_t, x_0, noise are [batch channels frames height width].
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.losses import Denoiser
from model_core.diffusion.parameterisation import PredictionName, to_noise, to_x0
from model_core.sampling.points import Point

Latents = Float[Tensor, "batch channels frames height width"]
DrawNoise = Callable[[], Tensor]
"""Source of standard normal noise of the shape of the latents, for samplers that add noise at each step."""


@dataclass(frozen=True, kw_only=True)
class SamplerStep:
    """Where a sampler stands after a step.

    Attributes:
        x_t: The state; after the last step the sample.
        x_0: The clean latents as the network saw them in this step: what a preview shows.
        step: Steps done, from 1.
        num_steps: Steps in all.
        timestep: The timestep at which the network was asked.
    """

    x_t: Tensor
    x_0: Tensor
    step: int
    num_steps: int
    timestep: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a network says of x_t at a point.

    Attributes:
        x_0: The clean latents.
        noise: The noise; with `x_0` it makes up x_t.
        variance: Where the network learns variances, its interpolation between the least (-1) and the greatest (1).
    """

    x_0: Tensor
    noise: Tensor
    variance: Tensor | None = None


Estimator = Callable[[Tensor, Point], Estimate]
"""``(x_t, point) -> estimate``; it makes the samplers that use it independent of what the network predicts."""


def estimator(predict: Denoiser, prediction: PredictionName) -> Estimator:
    """Returns what a network that predicts noise, x_0, v or velocity says of x_0 and noise.

    A network with twice the channels of x_t has learnt variances: the prediction comes first (Nichol & Dhariwal 2021, §3.1).
    """

    def estimate(x_t: Tensor, point: Point) -> Estimate:
        output = predict(x_t, timesteps_like(x_t, point))
        variance = None
        if output.shape[1] == 2 * x_t.shape[1]:
            output, variance = output.chunk(2, dim=1)
        return Estimate(
            x_0=to_x0(prediction, output, x_t, point.signal, point.sigma),
            noise=to_noise(prediction, output, x_t, point.signal, point.sigma),
            variance=variance,
        )

    return estimate


def clipped(estimate: Estimator, bound: float) -> Estimator:
    """Returns an estimator whose x_0 keeps within a bound, and whose noise makes up x_t with that.

    Where nearly all is noise, x_0 follows from predicted noise by a division by nearly nothing, so that the least error leads far
    away. On pixels, of known range, samplers of noise prediction therefore clip it, as Ho 2020's code does; latents have none.
    """

    def estimate_within(x_t: Tensor, point: Point) -> Estimate:
        found = estimate(x_t, point)
        x_0 = found.x_0.clamp(-bound, bound)
        return Estimate(x_0=x_0, noise=(x_t - point.signal * x_0) / point.sigma, variance=found.variance)

    return estimate_within


def timesteps_like(x_t: Latents, point: Point) -> Float[Tensor, "batch"]:
    """Returns a point's timestep for each sample of a batch."""
    return torch.full((len(x_t),), point.timestep, device=x_t.device)
