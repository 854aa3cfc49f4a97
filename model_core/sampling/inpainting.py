"""Sampling in which a part of the latents is known, such as some frames of a clip (Lugmayr 2022, arXiv 2201.09865; RePaint).

Wherever the network is asked, its answer about the known part is replaced by the truth. A sampler then carries the known part
along ``x_t = signal x_0 + sigma noise`` with the true x_0, as RePaint's equation 8a draws it, and does to the rest what it always
does: no sampler has to know of it.

The network sees the known part under noise, and at strong noise what it says of the rest hardly heeds it. So each step is taken
several times (RePaint's resampling, algorithm 1): after a step the state is noised back to where it came from, and the rest
settles around the known part. Of gaussian frames whose neighbours correlate by 0.9, one pass of 20 steps leads 59 % of the way to
the conditional mean, five passes lead to 99 %.

Shape legend: x_t, x_0, noise are [batch channels frames height width]; a mask broadcasts to that.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model_core.diffusion.losses import Denoiser
from model_core.diffusion.parameterisation import PredictionName, target
from model_core.sampling.points import Point, Points
from model_core.sampling.steps import DrawNoise, SamplerStep

Latents = Float[Tensor, "batch channels frames height width"]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a sample.

    Attributes:
        x_0: Clean latents; read only where the mask says so.
        mask: True where they are known; broadcasts to the latents.
    """

    x_0: Tensor
    mask: Tensor

    def within(self, truth: Latents, otherwise: Latents) -> Latents:
        """Returns the one where latents are known, the other elsewhere."""
        return torch.where(self.mask, truth, otherwise)


def known_frames(x_0: Latents, frames: Bool[Tensor, "frames"]) -> Known:
    """Returns what is known where whole frames are, those marked True."""
    return Known(x_0=x_0, mask=frames.to(x_0.device).view(1, 1, -1, 1, 1))


def told_what_is_known(predict: Denoiser, known: Known, prediction: PredictionName, points: Points) -> Denoiser:
    """Returns a network whose prediction of the known part is the true one: that of x_0 and ``(x_t - signal x_0) / sigma``.

    Args:
        predict: The network; it may learn variances, whose channels come second.
        known: What is known.
        prediction: What the network predicts.
        points: Where it will be asked.
    """
    by_timestep = {float(torch.tensor(point.timestep)): point for point in points}

    def predict_rest(x_t: Tensor, timesteps: Tensor) -> Tensor:
        point = by_timestep[float(timesteps[0])]
        output = predict(x_t, timesteps)
        channels = x_t.shape[1]
        noise = (x_t - point.signal * known.x_0) / point.sigma
        truth = target(prediction, known.x_0, noise, point.signal, point.sigma)
        return torch.cat([known.within(truth, output[:, :channels]), output[:, channels:]], dim=1)

    return predict_rest


def resampled(
    run: Callable[[Tensor, Points], Iterator[SamplerStep]],
    x_t: Latents,
    points: Points,
    *,
    num_passes: int,
    draw_noise: DrawNoise,
) -> Iterator[SamplerStep]:
    """Yields the states of a sampler that takes each step several times, but for the last, which ends at data.

    Between two passes the state is noised back by the forward process, ``x_t = r x_t' + sqrt(sigma^2 - r^2 sigma'^2) z`` with
    ``r = signal / signal'``. A solver that remembers earlier steps begins anew with each.

    Args:
        run: The sampler, from a state along points.
        x_t: The state at the first point.
        points: The points to visit.
        num_passes: How often each step is taken (U of RePaint); 1 is the plain sampler.
        draw_noise: Source of z.
    """
    if num_passes == 1:
        yield from run(x_t, points)
        return
    num_steps = (len(points) - 2) * num_passes + 1
    step = 0
    for now, then in itertools.pairwise(points):
        for number in range(num_passes if then.sigma > 0 else 1):
            if number:
                x_t = noised_back(x_t, then, now, draw_noise())
            *_, state = run(x_t, (now, then))
            x_t, step = state.x_t, step + 1
            yield replace(state, step=step, num_steps=num_steps)


def noised_back(x_t: Latents, here: Point, back: Point, noise: Latents) -> Latents:
    """Returns the state of a point with more noise, drawn by the forward process from that of a point with less."""
    ratio = back.signal / here.signal
    return ratio * x_t + math.sqrt(max(0.0, back.sigma**2 - (ratio * here.sigma) ** 2)) * noise
