"""What a training step computes its loss from, drawn from (seed, step) alone.

Shape legend: x_0 and noise are [batch channels frames height width].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model_core.data.latents import LatentDataset
from model_core.diffusion.condition import Condition, drop_conditions
from model_core.diffusion.frame_times import FrameTimes, context_times, independent_times
from model_core.diffusion.objective import Objective, make_objective
from model_core.errors import BadDataError, BadModelError
from model_core.training.config import TrainingConfig
from model_core.training.data_order import random_generator, rows_at
from model_core.transformer.config import TransformerConfig

_EVERYTHING = slice(None)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs of a step, or of a process's part of it.

    Attributes:
        rows: Rows of the latent dataset.
        x_0: Clean latents.
        noise: Standard normal noise.
        time: Times in [0, 1] for rectified flow, steps 0 to T - 1 for the other objectives, one an item or one a frame; on the
            CPU always.
        condition: Labels and captions, after dropping.
        counted: False for frames that are context, whose error does not count; None where every frame's does.
    """

    rows: list[int]
    x_0: Tensor
    noise: Tensor
    time: Tensor
    condition: Condition
    counted: Tensor | None = None

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.rows)

    def part(self, which: slice) -> "Batch":
        """Returns some of the items."""
        return Batch(
            rows=self.rows[which],
            x_0=self.x_0[which],
            noise=self.noise[which],
            time=self.time[which],
            condition=condition_part(self.condition, which),
            counted=None if self.counted is None else self.counted[which],
        )

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch with its tensors on a device; times stay where they index the schedule without waiting for it."""
        if device.type == "cpu":
            return self
        moved = {name: _moved(tensor, device) for name, tensor in vars(self.condition).items() if tensor is not None}
        return Batch(
            rows=self.rows,
            x_0=_moved(self.x_0, device),
            noise=_moved(self.noise, device),
            time=self.time,
            condition=Condition(**moved),
            counted=None if self.counted is None else _moved(self.counted, device),
        )


def objective_of(config: TrainingConfig) -> Objective:
    """Returns the objective that a configuration describes."""
    return make_objective(
        config.objective,
        noise_schedule=config.noise_schedule,
        num_timesteps=config.num_timesteps,
        zero_terminal_snr=config.zero_terminal_snr,
        learn_variance=config.learn_variance,
        min_snr_gamma=config.min_snr_gamma,
    )


def draw_batch(
    step: int,
    config: TrainingConfig,
    architecture: TransformerConfig,
    latents: LatentDataset,
    rows: list[int],
    *,
    objective: Objective | None = None,
    share: slice = _EVERYTHING,
) -> Batch:
    """Returns the inputs of a step, a function of (seed, step) and the data alone.

    Args:
        step: Counted from 0.
        config: Hyperparameters.
        architecture: The network.
        latents: The data.
        rows: The rows to train on.
        objective: What is learnt; made from the configuration if not given.
        share: The items to return: random numbers are drawn for all of them, so that parts of a step are the same however it is
            divided; latents are read for these alone.
    """
    chosen = rows_at(step, rows, batch_size=config.batch_size, seed=config.seed)
    generator = random_generator(config.seed, "step", step)
    times = (objective or objective_of(config)).draw_times(
        len(chosen), generator, config.time_distribution, mean=config.time_mean, std=config.time_std
    )
    noise = torch.randn((len(chosen), *latents.config.latent_shape), generator=generator)
    condition = drop_conditions(
        full_conditions(latents, chosen, architecture),
        num_labels=architecture.num_labels,
        all_probability=config.drop_all,
        label_probability=config.drop_label,
        text_probability=config.drop_text,
        generator=generator,
    ).with_text_noise(config.text_noise, generator)
    mine = chosen[share]
    framed = _frame_times(step, times, config, architecture, latents, objective or objective_of(config))
    counted = None if framed is None else framed.counted
    return Batch(
        rows=mine,
        x_0=latents.latents(mine),
        noise=noise[share],
        time=(times if framed is None else framed.times)[share],
        condition=condition_part(condition, share),
        counted=None if counted is None else counted[share],
    )


def _frame_times(
    step: int,
    times: Tensor,
    config: TrainingConfig,
    architecture: TransformerConfig,
    latents: LatentDataset,
    objective: Objective,
) -> FrameTimes | None:
    """Returns times of frames, from numbers of their own: all else about a step is the same with them and without."""
    if config.frame_times == "shared":
        return None
    generator = random_generator(config.seed, "frame_times", step)
    frames, joined = latents.config.latent_shape[1], architecture.patch_size[0]
    if config.frame_times == "context":
        return context_times(times, frames, joined, objective, probability=config.context_probability, generator=generator)
    count = len(times) * (frames // joined)
    drawn = objective.draw_times(count, generator, config.time_distribution, mean=config.time_mean, std=config.time_std)
    return independent_times(drawn, len(times), joined)


def require_fit(
    config: TrainingConfig,
    architecture: TransformerConfig,
    latents: LatentDataset,
    rows: list[int],
    *,
    num_processes: int = 1,
) -> None:
    """Refuses what cannot be trained together.

    Raises:
        BadDataError: There are no rows, or labels or captions are out of range.
        BadModelError: The network takes other latents or conditions or is not the objective's, or a batch has fewer items than it
            is to be divided into.
    """
    if not rows:
        raise BadDataError("the latents have no item in the train split", hint="choose more categories or another split")
    architecture.grid(latents.config.latent_shape)
    if architecture.reads_text_states and not latents.has_caption_tokens:
        raise BadModelError(
            "the transformer attends to caption tokens, and these latents hold pooled captions only",
            hint="encode them with encode_latents.caption_tokens=true, or choose text_conditioning pooled or none",
        )
    if config.frame_times != "shared" and architecture.grid(latents.config.latent_shape)[0] < 2:
        raise BadModelError(
            f"frame_times {config.frame_times} is for clips of two patches or more along time, these latents have one",
            hint="choose frame_times shared",
        )
    if architecture.learn_variance != config.learn_variance:
        raise BadModelError("the transformer and its training differ in learn_variance", hint="set it for both, or for neither")
    if config.batch_size // num_processes < config.accumulate_steps:
        raise BadModelError(
            f"a batch of {config.batch_size} does not divide among {num_processes} processes in {config.accumulate_steps} parts",
            hint="raise batch_size, or lower accumulate_steps",
        )
    full_conditions(latents, rows, architecture).require_valid(num_labels=architecture.num_labels, text_dim=architecture.text_dim)


def full_conditions(latents: LatentDataset, rows: list[int], architecture: TransformerConfig) -> Condition:
    """Returns the conditions of rows before dropping; items without a label or caption have the null one."""
    labels = latents.label_indices(rows)
    states, states_mask = latents.caption_tokens(rows) if architecture.reads_text_states else (None, None)
    return Condition(
        labels=torch.where(labels < 0, architecture.num_labels, labels),
        text=latents.caption_embeddings(rows) if architecture.text_dim else torch.zeros(len(rows), 0),
        text_mask=latents.caption_indices(rows) >= 0,
        text_states=states,
        text_states_mask=states_mask,
    )


def condition_part(condition: Condition, which: slice) -> Condition:
    """Returns the conditions of some items."""
    return Condition(**{name: tensor[which] for name, tensor in vars(condition).items() if tensor is not None})


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor on its way to a GPU: from pinned memory, so that nobody waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
