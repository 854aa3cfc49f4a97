"""Samples latents from a trained transformer."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model_core.diffusion.condition import Condition
from model_core.diffusion.guidance import Guidance, guided_denoiser
from model_core.diffusion.losses import Denoiser
from model_core.diffusion.objective import Objective, make_objective
from model_core.diffusion.parameterisation import FLOW_TIME_SCALE
from model_core.errors import BadDataError, BadModelError
from model_core.finite import first_not_finite
from model_core.sampling.context import Context, ContextNetwork
from model_core.sampling.ddim import ddim
from model_core.sampling.ddpm import ddpm
from model_core.sampling.euler import euler, heun
from model_core.sampling.feature_cache import cached_features
from model_core.sampling.inpainting import Known, known_frames, resampled, told_what_is_known
from model_core.sampling.multistep import dpm_solver_pp, unipc
from model_core.sampling.names import SamplerName, fitting_samplers
from model_core.sampling.options import DEFAULT_NUM_PASSES, DdpmVariance, option_in_vain
from model_core.sampling.points import Points, flow_points, part_way, schedule_points
from model_core.sampling.steps import DrawNoise, SamplerStep, clipped, estimator
from model_core.sampling.tables import TabledNetwork
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
    guidance_scale: float | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
    sampler: SamplerName | None = None,
    eta: float | None = None,
    ddpm_variance: DdpmVariance | None = None,
    guidance: Guidance | None = None,
    start: Float[Tensor, "n c f h w"] | None = None,
    strength: float = 1.0,
    keep: Bool[Tensor, "kept"] | None = None,
    num_passes: int = DEFAULT_NUM_PASSES,
    context: Context | None = None,
    draw_noise: DrawNoise | None = None,
    time_shift: float | None = None,
    cache_interval: int = 1,
    clip_x_0: float | None = None,
    on_state: Callable[[SamplerStep], None] = lambda _state: None,
    names: Sequence[str] | None = None,
) -> Latents:
    """Returns latents drawn under a condition, all of them finite numbers.

    Args:
        model: The transformer.
        model_config: Its objective and schedule.
        noise: Standard normal; it alone decides the sample, given the condition, but for a sampler that draws more.
        condition: One condition a sample.
        num_steps: Steps of the whole path: calls of the network (twice but one for Heun), each on twice the batch where guidance
            needs it.
        guidance_scale: s of P8: 1 follows the condition as trained, more does so more strongly, 0 ignores it, less leads away.
        on_step: Called with the steps done and in all.
        sampler: How to go from noise to data; if not given the model's default, or else Euler for rectified flow, DDIM for the
            rest.
        eta: Share of DDPM's noise that DDIM adds at each step; none if not given.
        ddpm_variance: Which fixed variance DDPM draws with where the network learns none; the small one if not given.
        guidance: Guidance with more than a scale, given in place of `guidance_scale`.
        start: Encoded latents of the shape of the noise to start from instead of it (SDEdit: Meng 2021, arXiv 2108.01073).
        strength: Share of the path to go from there: 1 keeps nothing of `start`, 0 returns it.
        keep: True for frames of `start` that stay as they are, while the others are drawn to go with them (see `inpainting`).
        num_passes: How often each step is taken where frames are kept.
        context: Frames that the samples go on from, for a network trained with times of frames; the noise is of the new frames.
        draw_noise: Source of the noise of samplers that draw some at each step, and of what is drawn between passes.
        time_shift: Rectified flow's shift of times towards noise (Esser 2024, §5.3.2); none if not given.
        cache_interval: Compute attention and MLPs only in every n-th call of the network and reuse them between; 1 always.
        clip_x_0: Bound within which samplers of a noise schedule keep their estimate of x_0, for data of a known range such as
            pixels; none if not given.
        on_state: Called after each step with the state, for previews.
        names: What an error calls each sample; its place if not given.

    Raises:
        BadDataError: Noise, start and condition do not fit together or hold a number that is not finite, a label is out of range,
            or a number or the sampler makes no sense for this model.
        BadModelError: The model's objective and schedule do not fit together, or a sample does not come out finite.
        ValueError: Both or neither of guidance_scale and guidance, or a sampler or passes that draw noise without a source.
    """
    if (guidance_scale is None) == (guidance is None):
        raise ValueError("give either guidance_scale or guidance")
    guidance = guidance or Guidance(scale=1.0 if guidance_scale is None else guidance_scale)
    _require_latents(noise, start, strength, condition)
    known = _known(start, keep, num_passes)
    condition.require_valid(num_labels=model.config.num_labels, text_dim=model.config.text_dim)
    objective = _objective(model_config, learn_variance=model.config.learn_variance)
    sampler = _fitting(sampler or model_config.sampling.sampler, objective)
    _require_read(sampler, objective, model, time_shift=time_shift, eta=eta, ddpm_variance=ddpm_variance)
    points = _points(objective, num_steps, time_shift)
    if start is not None and (strength == 0 or not len(start)):
        return start.clone()
    if not len(noise):
        return noise
    x_t = noise
    if start is not None and (strength < 1 or known is not None):
        points = part_way(points, strength) if strength < 1 else points
        noised = points[0].signal * start + points[0].sigma * noise
        x_t = noised if known is None or strength < 1 else known.within(noised, noise)
    timesteps = [point.timestep for point in points[:-1]]
    network: TabledNetwork | ContextNetwork = TabledNetwork(model, timesteps)
    if context is not None:
        network = ContextNetwork(model, context, objective, timesteps, num_frames=noise.shape[2])
    predict = guided_denoiser(
        network.predict,
        condition,
        num_labels=model.config.num_labels,
        guidance=guidance,
        num_timesteps=FLOW_TIME_SCALE if objective.schedule is None else objective.schedule.num_timesteps,
    )
    if known is not None:
        predict = told_what_is_known(predict, known, objective.prediction, points)

    def run(x_t: Tensor, points: Points) -> Iterator[SamplerStep]:
        return _run(sampler, predict, objective, x_t, points, draw_noise, eta or 0.0, ddpm_variance or "small", clip_x_0)

    with cached_features(model, cache_interval) if cache_interval != 1 else nullcontext():
        for state in run(x_t, points) if known is None else _passes(run, x_t, points, num_passes, draw_noise):
            x_t = state.x_t
            on_state(state)
            on_step(state.step, state.num_steps)
    _require_finite(x_t, names, sampler)
    return x_t if known is None else known.within(known.x_0, x_t)


def _known(start: Tensor | None, keep: Tensor | None, num_passes: int) -> Known | None:
    """Returns what is known of the samples: the frames of a start that are kept."""
    if keep is None or not bool(keep.any()):
        return None
    if start is None or len(keep) != start.shape[2]:
        raise BadDataError(f"{len(keep)} frames are to be kept or not, of {'none' if start is None else start.shape[2]} given")
    if num_passes < 1:
        raise BadDataError(f"each step is to be taken {num_passes} times", hint="choose 1 or more")
    return known_frames(start, keep)


def _passes(
    run: Callable[[Tensor, Points], Iterator[SamplerStep]],
    x_t: Tensor,
    points: Points,
    num_passes: int,
    draw_noise: DrawNoise | None,
) -> Iterator[SamplerStep]:
    if draw_noise is None:
        raise ValueError("noise is drawn between passes: give draw_noise")
    return resampled(run, x_t, points, num_passes=num_passes, draw_noise=lambda: draw_noise().to(x_t))


def _run(
    sampler: SamplerName,
    predict: Denoiser,
    objective: Objective,
    x_t: Tensor,
    points: Points,
    draw_noise: DrawNoise | None,
    eta: float,
    ddpm_variance: DdpmVariance,
    clip_x_0: float | None,
) -> Iterator[SamplerStep]:
    """Returns the chosen sampler's states."""
    estimate = estimator(predict, objective.prediction)
    if clip_x_0 is not None:
        estimate = clipped(estimate, clip_x_0)
    match sampler:
        case "euler":
            return euler(predict, x_t, points)
        case "heun":
            return heun(predict, x_t, points)
        case "dpm_solver_pp":
            return dpm_solver_pp(estimate, x_t, points)
        case "unipc":
            return unipc(estimate, x_t, points)
        case "ddim":
            return ddim(estimate, x_t, points, eta=eta, draw_noise=None if draw_noise is None else lambda: draw_noise().to(x_t))
        case "ddpm":
            if draw_noise is None:
                raise ValueError("ddpm draws noise at each step: give draw_noise")
            return ddpm(estimate, x_t, points, draw_noise=lambda: draw_noise().to(x_t), variance=ddpm_variance)


def _objective(model_config: ModelConfig, *, learn_variance: bool) -> Objective:
    chosen = model_config.noise_schedule
    if model_config.objective == "rectified_flow":
        return make_objective("rectified_flow", learn_variance=learn_variance)
    if chosen is None:
        raise BadModelError(f"the {model_config.objective} objective needs a noise schedule, the model's configuration has none")
    return make_objective(
        model_config.objective,
        noise_schedule=chosen.name,
        num_timesteps=chosen.num_timesteps,
        zero_terminal_snr=chosen.zero_terminal_snr,
        learn_variance=learn_variance,
    )


def _fitting(sampler: SamplerName | None, objective: Objective) -> SamplerName:
    fitting = fitting_samplers(objective.name)
    if sampler is None:
        return fitting[0]
    if sampler not in fitting:
        raise BadDataError(
            f"the sampler {sampler} cannot sample a model of the {objective.name} objective", hint=f"choose {', '.join(fitting)}"
        )
    return sampler


def _require_read(sampler: SamplerName, objective: Objective, model: DiT, **options: Any) -> None:
    """Refuses an option that this sampler and model would not read."""
    problem = option_in_vain(sampler, objective.name, learn_variance=model.config.learn_variance, **options)
    if problem is not None:
        raise BadDataError(problem[0], hint=problem[1])


def _points(objective: Objective, num_steps: int, time_shift: float | None) -> Points:
    """Returns the points to visit, the first where training's noise was strongest, as that is what sampling starts from.

    On a schedule those are `trailing` (Lin 2023, arXiv 2305.08891, §3.3): `leading` tells the network of less noise than there
    is, and of next to none where only one step is taken.
    """
    if objective.schedule is None:
        return flow_points(num_steps, shift=time_shift)
    return schedule_points(objective.schedule, num_steps, spacing="trailing")


def _require_latents(noise: Tensor, start: Tensor | None, strength: float, condition: Condition) -> None:
    if len(noise) != len(condition):
        raise BadDataError(f"{len(noise)} samples were asked for with {len(condition)} conditions")
    if not bool(torch.isfinite(noise).all()):
        raise BadDataError("the noise holds a number that is not finite")
    if not (math.isfinite(strength) and 0 <= strength <= 1):
        raise BadDataError(f"strength is {strength}", hint="choose 0 (the start as it is) to 1 (nothing of it)")
    if start is None:
        if strength != 1:
            raise BadDataError(f"strength is {strength}, but there are no latents to start from")
        return
    if start.shape != noise.shape:
        raise BadDataError(f"latents to start from have shape {list(start.shape)}, the noise {list(noise.shape)}")
    if not bool(torch.isfinite(start).all()):
        raise BadDataError("the latents to start from hold a number that is not finite")


def _require_finite(samples: Tensor, names: Sequence[str] | None, sampler: SamplerName) -> None:
    """Refuses samples that would decode to pictures of nothing."""
    place = first_not_finite(samples)
    if place is not None:
        name = f"sample {place}" if names is None else names[place]
        raise BadModelError(
            f"{name} of the model is not finite at the end of sampling by {sampler}",
            hint="lower the guidance scale or take more steps; where that changes nothing, train with a lower learning rate",
        )
