"""Samples latents from a trained transformer."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.condition import Condition
from model_core.diffusion.guidance import guided_denoiser
from model_core.diffusion.schedules import noise_schedule
from model_core.errors import BadDataError
from model_core.sampling.ddim import ddim
from model_core.sampling.flow import euler_flow
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig

Latents = Float[Tensor, "batch channels frames height width"]


@torch.no_grad()
def sample_latents(
    model: DiT,
    model_config: ModelConfig,
    *,
    noise: Latents,
    condition: Condition,
    num_steps: int,
    guidance_scale: float,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Latents:
    """Returns latents drawn under a condition: Euler steps for rectified flow, DDIM for epsilon.

    Args:
        model: The transformer.
        model_config: Its objective and schedule.
        noise: Standard normal; it alone decides the sample, given the condition.
        condition: One condition a sample.
        num_steps: Calls of the network (each on twice the batch where guidance needs it).
        guidance_scale: s of P8: 1 follows the condition as trained, more does so more strongly, 0 ignores it, less leads away.
        on_step: Called with the steps done and in all.

    Raises:
        BadDataError: Noise and condition differ in number, a label is out of range, fewer than one step, or a guidance scale that
            is not finite.
    """
    if len(noise) != len(condition):
        raise BadDataError(f"{len(noise)} samples were asked for with {len(condition)} conditions")
    if not math.isfinite(guidance_scale):
        raise BadDataError(f"the guidance scale is {guidance_scale}", hint="choose a finite number; 3 is usual")
    condition.require_valid(num_labels=model.config.num_labels, text_dim=model.config.text_dim)
    predict = guided_denoiser(model.predict, condition, num_labels=model.config.num_labels, scale=guidance_scale)
    steps: Iterator[Tensor]
    if model_config.objective == "rectified_flow" or model_config.noise_schedule is None:
        steps = euler_flow(predict, noise, num_steps=num_steps)
    else:
        schedule = noise_schedule(model_config.noise_schedule.name, model_config.noise_schedule.num_timesteps)
        steps = ddim(predict, noise, schedule=schedule, num_steps=num_steps)
    x_t = noise
    for done, x_t in enumerate(steps, start=1):  # noqa: B007  # the last one is the sample
        on_step(done, num_steps)
    return x_t
