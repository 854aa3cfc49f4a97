"""Trains a diffusion transformer on latents: deterministic, resumable, stopped by a loss that is not finite.

Shape legend: x_0 and noise are [batch channels frames height width].
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from model_core.data.latents import LatentDataset
from model_core.diffusion.condition import Condition, drop_conditions
from model_core.diffusion.losses import epsilon_loss, rectified_flow_loss
from model_core.diffusion.schedules import noise_schedule
from model_core.diffusion.timesteps import logit_normal_times, uniform_steps
from model_core.errors import BadDataError, TrainingDivergedError
from model_core.training.checkpoint import CHECKPOINT_NAME, Checkpoint, read_checkpoint, write_checkpoint
from model_core.training.config import TrainingConfig
from model_core.training.data_order import random_generator, rows_at
from model_core.training.state import TrainingState
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.weights import restore_tensors


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """How far a training run has come.

    Attributes:
        step: Steps done.
        num_steps: Steps in all.
        loss: Loss of the last step.
        steps_per_s: Speed since this process started or resumed.
        seconds_left: Estimate for the rest.
    """

    step: int
    num_steps: int
    loss: float
    steps_per_s: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run leaves.

    Attributes:
        weights: Averaged weights by parameter name.
        losses: Loss of every step.
        num_parameters: Number of trained numbers.
        resumed_from: Steps that a checkpoint had already done; 0 for a run from the beginning.
    """

    weights: dict[str, Tensor]
    losses: list[float]
    num_parameters: int
    resumed_from: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step computes its loss from, all drawn from (seed, step).

    Attributes:
        rows: Rows of the latent dataset.
        x_0: Clean latents.
        noise: Standard normal noise.
        time: Times in [0, 1] for rectified flow, steps 0 to T - 1 for epsilon.
        condition: Labels and captions, after dropping.
    """

    rows: list[int]
    x_0: Tensor
    noise: Tensor
    time: Tensor
    condition: Condition


def train(
    config: TrainingConfig,
    architecture: TransformerConfig,
    latents: LatentDataset,
    *,
    scratch: Path,
    on_step: Callable[[StepProgress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Trains on the train split and returns the averaged weights.

    A checkpoint in ``scratch`` of the same work is resumed, to the same losses and weights as a run that was never stopped. On
    KeyboardInterrupt a checkpoint is written before it goes on its way.

    Args:
        config: Hyperparameters.
        architecture: The network.
        latents: What to train on.
        scratch: Folder for checkpoints; it is found again by the next attempt.
        on_step: Called after every step.
        clock: Seconds, for speed and for when to write checkpoints.

    Raises:
        BadDataError: The train split is empty, or holds latents that are not finite or do not fit the network.
        BadModelError: The checkpoint is unreadable, or the architecture does not fit the latents.
        TrainingDivergedError: A loss or gradient is not finite; the step's inputs lie in ``scratch``.
    """
    rows = latents.rows("train")
    _require_fit(architecture, latents, rows)
    state = TrainingState(config, architecture)
    work = _work(config, architecture, latents)
    path = scratch / CHECKPOINT_NAME
    resumed_from = _resume(state, path, work)
    whole = True  # False while an optimiser step is half applied and must not be saved
    started = saved_at = clock()
    try:
        while state.step < config.num_steps:
            batch = draw_batch(state.step, config, architecture, latents, rows)
            loss = _backward(state, batch, scratch)
            whole = False
            state.apply(loss)
            whole = True
            now = clock()
            if state.step % config.checkpoint_every_steps == 0 or now - saved_at >= config.checkpoint_every_s:
                _save(state, path, work)
                saved_at = clock()
            on_step(_progress(state, loss, done=state.step - resumed_from, elapsed=now - started))
    except KeyboardInterrupt:
        if whole:
            _save(state, path, work)
        raise
    _save(state, path, work)
    return TrainingResult(
        weights=state.ema, losses=state.losses.tolist(), num_parameters=state.model.num_parameters, resumed_from=resumed_from
    )


def draw_batch(
    step: int, config: TrainingConfig, architecture: TransformerConfig, latents: LatentDataset, rows: list[int]
) -> Batch:
    """Returns the inputs of a step, a function of (seed, step) and the data alone."""
    chosen = rows_at(step, rows, batch_size=config.batch_size, seed=config.seed)
    generator = random_generator(config.seed, "step", step)
    x_0 = latents.latents(chosen)
    if config.objective == "rectified_flow":
        times = logit_normal_times(len(chosen), generator, mean=config.time_mean, std=config.time_std)
    else:
        times = uniform_steps(len(chosen), config.num_timesteps, generator)
    noise = torch.randn(x_0.shape, generator=generator)
    condition = drop_conditions(
        _conditions(latents, chosen, architecture),
        num_labels=architecture.num_labels,
        all_probability=config.drop_all,
        label_probability=config.drop_label,
        text_probability=config.drop_text,
        generator=generator,
    ).with_text_noise(config.text_noise, generator)
    return Batch(rows=chosen, x_0=x_0, noise=noise, time=times, condition=condition)


def batch_loss(model: DiT, batch: Batch, config: TrainingConfig) -> Tensor:
    """Returns the loss of the configured objective."""
    predict = partial(model.predict, condition=batch.condition)
    if config.objective == "rectified_flow":
        return rectified_flow_loss(predict, batch.x_0, batch.noise, batch.time)
    schedule = noise_schedule(config.noise_schedule, config.num_timesteps)
    return epsilon_loss(predict, batch.x_0, batch.noise, batch.time, schedule)


def _conditions(latents: LatentDataset, rows: list[int], architecture: TransformerConfig) -> Condition:
    """Returns the full conditions of rows; items without a label or caption have the null one."""
    labels = latents.label_indices(rows)
    return Condition(
        labels=torch.where(labels < 0, architecture.num_labels, labels),
        text=latents.caption_embeddings(rows) if architecture.text_dim else torch.zeros(len(rows), 0),
        text_mask=latents.caption_indices(rows) >= 0,
    )


def _require_fit(architecture: TransformerConfig, latents: LatentDataset, rows: list[int]) -> None:
    """Refuses data that the network cannot learn from."""
    if not rows:
        raise BadDataError("the latents have no item in the train split", hint="choose more categories or another split")
    architecture.grid(latents.config.latent_shape)
    _conditions(latents, rows, architecture).require_valid(num_labels=architecture.num_labels, text_dim=architecture.text_dim)


def _work(config: TrainingConfig, architecture: TransformerConfig, latents: LatentDataset) -> dict[str, Any]:
    """Returns what decides the weights, as plain values."""
    return {
        "training": config.hyperparameters(),
        "architecture": architecture.to_dict(),
        "codec_digest": latents.config.codec_digest,
        "dataset_digest": latents.config.dataset_digest,
    }


def _resume(state: TrainingState, path: Path, work: dict[str, Any]) -> int:
    """Restores a checkpoint of the same work, if there is one, and returns the steps that it had done."""
    if not path.is_file():
        return 0
    checkpoint = read_checkpoint(path)
    if checkpoint.work != work:
        return 0  # scratch was used for other work before: begin anew
    restore_tensors(state.tensors(), checkpoint.tensors, source=path)
    state.step = checkpoint.step
    return checkpoint.step


def _save(state: TrainingState, path: Path, work: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, Checkpoint(step=state.step, work=work, tensors=state.tensors()))


def _backward(state: TrainingState, batch: Batch, scratch: Path) -> float:
    """Computes loss and clipped gradients; stops the run where either is not finite."""
    state.zero_grad()
    loss = batch_loss(state.model, batch, state.config)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    value, norm = float(loss.detach()), float(state.gradient_norm())
    if math.isfinite(value) and math.isfinite(norm):
        return value
    if not bool(torch.isfinite(batch.x_0).all()):
        wrong = [row for row, x in zip(batch.rows, batch.x_0, strict=True) if not bool(torch.isfinite(x).all())]
        raise BadDataError(f"latents of row {wrong[0]} hold numbers that are not finite", hint="encode the dataset again")
    inputs = scratch / f"diverged-step-{state.step:06d}.safetensors"
    tensors = {"x_0": batch.x_0, "noise": batch.noise, "time": batch.time, "labels": batch.condition.labels}
    save_file({**tensors, "rows": torch.tensor(batch.rows), "text_mask": batch.condition.text_mask}, inputs)
    raise TrainingDivergedError(
        f"training diverged at step {state.step}: loss {value}, gradient norm {norm}; the step's inputs are in {inputs.name}",
        hint="lower learning_rate or raise warmup_steps",
    )


def _progress(state: TrainingState, loss: float, *, done: int, elapsed: float) -> StepProgress:
    speed = done / elapsed if elapsed > 0 else 0.0
    left = (state.config.num_steps - state.step) / speed if speed > 0 else 0.0
    return StepProgress(step=state.step, num_steps=state.config.num_steps, loss=loss, steps_per_s=speed, seconds_left=left)
