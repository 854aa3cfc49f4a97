"""Training losses: the simple noise-prediction loss (P4) and rectified flow."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from model_core.diffusion.forward import interpolate, q_sample
from model_core.diffusion.parameterisation import FLOW_TIME_SCALE, flow_velocity
from model_core.diffusion.schedules import NoiseSchedule

Latents = Float[Tensor, "batch channels frames height width"]
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A network with its condition filled in: ``(x_t, timestep on the scale of 0 to 1,000) -> prediction``, of x_t's shape."""


def simple_loss(output: Latents, target: Latents, weights: Float[Tensor, "..."] | None = None) -> Float[Tensor, ""]:
    """Returns ``E || target - output ||^2``, a mean over all numbers: P4, where the target is the noise (Ho 2020, eq. 14).

    Args:
        output: What the network predicted.
        target: What it should have.
        weights: How much each error counts, broadcast to the others; all alike if not given.
    """
    if weights is None:
        return functional.mse_loss(output, target)
    return (weights * (output - target).square()).mean()


def epsilon_loss(
    predict: Denoiser, x_0: Latents, noise: Latents, t: Int[Tensor, "batch"], schedule: NoiseSchedule
) -> Float[Tensor, ""]:
    """Returns ``E || noise - eps_theta(x_t, t) ||^2``, a mean over all numbers (P4; Ho 2020, eq. 14)."""
    x_t = q_sample(x_0, noise, t, schedule)
    return simple_loss(predict(x_t, t.to(torch.float32)), noise)


def rectified_flow_loss(predict: Denoiser, x_0: Latents, noise: Latents, t: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Returns ``E || (noise - x_0) - v_theta(x_t, t) ||^2``, a mean over all numbers (Liu 2022; Esser 2024, eq. 8)."""
    x_t = interpolate(x_0, noise, t)
    return simple_loss(predict(x_t, FLOW_TIME_SCALE * t), flow_velocity(x_0, noise))
