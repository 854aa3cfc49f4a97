"""Draws pictures from a run's snapshots and judges them; a judgement is kept and found again.

A judgement's file is named after a digest of the weights' step and of all that decides the pictures.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from benchmarks.command import digest_of, read_json, write_json
from benchmarks.fashion import Judge, Pictures, requested_labels
from benchmarks.quality_runs import Recipe, Run, Workplace, load_snapshot
from benchmarks.spaces import Space
from model_core.data.importers.fashion_mnist import LABELS
from model_core.diffusion.condition import Condition
from model_core.diffusion.guidance import Guidance
from model_core.sampling.names import SamplerName, fitting_samplers
from model_core.sampling.sample import sample_latents
from model_core.sampling.seeds import noise_source
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import Conditioning, ModelConfig, NoiseScheduleId, SamplingDefaults, TextEncoderId

GRID_ROWS = 4
_BATCH = 25  # guidance doubles it; larger ones leave the processor's cache and are slower


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How pictures are drawn.

    Attributes:
        sampler: Which sampler.
        num_steps: Its steps.
        guidance_scale: s of P8.
        num_pictures: How many, all labels in turn.
        seed: The first picture's seed; the others follow.
        cache_interval: Attention and MLPs are computed in every n-th call of the network.
        guidance_interval: Times at which guidance holds, from 0 (data) to 1 (noise); None for always.
        clip: Whether the estimate of x_0 is kept within the range of pixels.
    """

    sampler: SamplerName
    num_steps: int
    guidance_scale: float
    num_pictures: int
    seed: int = 0
    cache_interval: int = 1
    guidance_interval: tuple[float, float] | None = None
    clip: bool = False

    @property
    def num_calls(self) -> int:
        """Calls of the network for one picture; guidance, which makes each a batch of twice the size, is not counted."""
        return 2 * self.num_steps - 1 if self.sampler == "heun" else self.num_steps

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; options are left out where they are off, as in judgements from before they existed."""
        options: dict[str, Any] = {}
        if self.cache_interval != 1:
            options["cache_interval"] = self.cache_interval
        if self.guidance_interval is not None:
            options["guidance_interval"] = list(self.guidance_interval)
        if self.clip:
            options["clip"] = True
        return {
            "sampler": self.sampler,
            "num_steps": self.num_steps,
            "num_calls": self.num_calls,
            "guidance_scale": self.guidance_scale,
            "num_pictures": self.num_pictures,
            "seed": self.seed,
            **options,
        }


def recipe_drawing(recipe: Recipe, *, num_pictures: int, max_steps: int | None = None) -> Drawing:
    """Returns the drawing that a recipe asks for, with at most so many steps."""
    objective = recipe.training.get("objective", "rectified_flow")
    names: dict[str, SamplerName] = {name: name for name in fitting_samplers(objective)}
    sampler = names[recipe.sampler] if recipe.sampler in names else fitting_samplers(objective)[0]
    return Drawing(
        sampler=sampler,
        num_steps=min(recipe.num_sampling_steps, max_steps or recipe.num_sampling_steps),
        guidance_scale=recipe.guidance_scale,
        num_pictures=num_pictures,
        clip=is_clipped(recipe),
    )


def is_clipped(recipe: Recipe) -> bool:
    """Says whether samplers clip x_0: on pixels it is usual where the network learnt on a noise schedule."""
    return recipe.space == "pixels" and recipe.training.get("objective", "rectified_flow") != "rectified_flow"


def model_config(run: Run, space: Space, latent_shape: tuple[int, int, int, int], image_size: int, data: str) -> ModelConfig:
    """Returns what the samplers have to know of a run's model."""
    training = run.training
    schedule = None
    if training.objective != "rectified_flow":
        schedule = NoiseScheduleId(
            name=training.noise_schedule, num_timesteps=training.num_timesteps, zero_terminal_snr=training.zero_terminal_snr
        )
    return ModelConfig(
        architecture=run.architecture.to_dict(),
        objective=training.objective,
        noise_schedule=schedule,
        conditioning=Conditioning(labels=list(LABELS), text_encoder=TextEncoderId(name="none", digest=data, dim=1)),
        latent_shape=latent_shape,
        image_size=image_size,
        codec_digest=space.digest,
        dataset_digest=data,
        sampling=SamplingDefaults(num_steps=run.recipe.num_sampling_steps, guidance_scale=run.recipe.guidance_scale),
        training=training.hyperparameters(),
    )


def draw(
    run: Run,
    step: int,
    drawing: Drawing,
    workplace: Workplace,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Pictures:
    """Returns pictures drawn with a snapshot's weights, all labels in turn."""
    space = workplace.space(run.recipe.space)
    latents = workplace.latents(space)
    model = DiT(run.architecture)
    model.load_state_dict(load_snapshot(run, step))
    model.eval().requires_grad_(requires_grad=False)
    config = model_config(run, space, latents.config.latent_shape, latents.config.image_size, latents.config.dataset_digest)
    labels = requested_labels(drawing.num_pictures)
    images = []
    for start in range(0, drawing.num_pictures, _BATCH):
        asked = torch.from_numpy(labels[start : start + _BATCH])
        count = len(asked)
        source = noise_source([drawing.seed + start + index for index in range(count)], latents.config.latent_shape)
        drawn = sample_latents(
            model,
            config,
            noise=source(),
            draw_noise=source,
            condition=Condition(labels=asked, text=torch.zeros(count, 0), text_mask=torch.zeros(count, dtype=torch.bool)),
            num_steps=drawing.num_steps,
            guidance=Guidance(scale=drawing.guidance_scale, interval=drawing.guidance_interval),
            sampler=drawing.sampler,
            cache_interval=drawing.cache_interval,
            clip_x_0=1.0 if drawing.clip else None,
        )
        images.append(space.decode(drawn))
        progress(start + count)
    return Pictures(images=np.concatenate(images), labels=labels)


def judge_snapshot(
    run: Run,
    step: int,
    drawing: Drawing,
    judge: Judge,
    workplace: Workplace,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Returns the judgement of a snapshot, from an earlier call where there was one.

    Beside the judgement's file lies a picture with the first `GRID_ROWS` pictures of each label.
    """
    key = {"step": step, "classifier": judge.classifier.digest, **drawing.to_dict()}
    path = run.folder / "judgements" / f"step-{step:06d}-{drawing.sampler}-{drawing.num_steps}-{digest_of(key)[:12]}.json"
    if path.is_file():
        found: dict[str, Any] = read_json(path)
        return found
    began = time.perf_counter()
    pictures = draw(run, step, drawing, workplace, progress=progress)
    seconds = time.perf_counter() - began
    document = {
        **key,
        **judge.judge(pictures).to_dict(),
        "training_s": run.times().get(step),
        "drawing_s": round(seconds, 2),
        "grid": grid_path(path).name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sample_grid(pictures)).save(grid_path(path))
    write_json(path, document)
    return document


def grid_path(judgement: Path) -> Path:
    """Returns where the sample grid of a judgement lies."""
    return judgement.with_suffix(".png")


def sample_grid(pictures: Pictures) -> np.ndarray:
    """Returns the first pictures of each label: a column a label, `GRID_ROWS` rows, dark lines between them."""
    rows = min(GRID_ROWS, len(pictures) // len(LABELS))
    count = rows * len(LABELS) if rows else len(pictures)
    framed = np.pad(pictures.images[:count, ..., 0], ((0, 0), (1, 1), (1, 1)))
    columns = len(LABELS) if rows else count
    found: np.ndarray = rearrange(framed, "(row column) h w -> (row h) (column w)", column=columns)
    return found
