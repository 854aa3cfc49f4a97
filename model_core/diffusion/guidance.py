"""Classifier-free guidance (P8; Ho & Salimans 2022, arXiv 2207.12598).

It applies to every latent channel; guiding three of four, as a widely copied reference does, mixes two models in one sample.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.condition import Condition
from model_core.diffusion.losses import Denoiser

ConditionalDenoiser = Callable[[Tensor, Tensor, Condition], Tensor]
"""``(x_t, timestep, condition) -> prediction``."""

Latents = Float[Tensor, "batch channels frames height width"]


def classifier_free_guidance(conditional: Latents, unconditional: Latents, scale: float) -> Latents:
    """Returns ``eps(x_t, null) + s (eps(x_t, c) - eps(x_t, null))`` (P8); it holds for velocities alike, being linear."""
    return unconditional + scale * (conditional - unconditional)


def guided_denoiser(predict: ConditionalDenoiser, condition: Condition, *, num_labels: int, scale: float) -> Denoiser:
    """Returns a denoiser that follows a condition at a guidance scale.

    At scale 1 the unconditional half is not computed, at scale 0 the conditional one is not; else both go through the network as
    one batch of twice the size.

    Args:
        predict: The network.
        condition: Conditions of the batch to sample.
        num_labels: The label that means none.
        scale: s; negative values lead away from the condition.
    """
    null = condition.null(num_labels)
    if scale == 1:
        return lambda x_t, timestep: predict(x_t, timestep, condition)
    if scale == 0:
        return lambda x_t, timestep: predict(x_t, timestep, null)
    both = condition.followed_by(null)

    def guided(x_t: Tensor, timestep: Tensor) -> Tensor:
        conditional, unconditional = predict(torch.cat([x_t, x_t]), torch.cat([timestep, timestep]), both).chunk(2)
        return classifier_free_guidance(conditional, unconditional, scale)

    return guided
