"""What a training step computes its loss from, drawn from (seed, step) alone.

Shape legend: x_0 and noise are [batch channels frames height width].
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_core.data.latents import LatentDataset
from model_core.diffusion.condition import Condition, drop_conditions
from model_core.diffusion.frame_times import FrameTimes, context_times, independent_times
from model_core.diffusion.objective import Objective, make_objective
from model_core.errors import BadDataError, BadModelError
from model_core.training.clip_lengths import bucket_at, require_fitting_lengths
from model_core.training.config import TrainingConfig
from model_core.training.data_order import random_generator
from model_core.transformer.config import TransformerConfig


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
        num_in_step: Items of the whole step, over all processes.
        counted: False for frames that are context, whose error does not count; None where every frame's does.
    """

    rows: list[int]
    x_0: Tensor
    noise: Tensor
    time: Tensor
    condition: Condition
    num_in_step: int
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
            num_in_step=self.num_in_step,
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
            num_in_step=self.num_in_step,
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
    share: Callable[[int], slice] = slice,
) -> Batch:
    """Returns the inputs of a step, a function of (seed, step) and the data alone.

    Args:
        step: Counted from 0.
        config: Hyperparameters.
        architecture: The network.
        latents: The data.
        rows: The rows to train on.
        objective: What is learnt; made from the configuration if not given.
        share: Gives of so many items those to return: random numbers are drawn for all of them, so that parts of a step are the
            same however it is divided; latents are read for these alone.
    """
    channels, num_frames, *sides = latents.config.latent_shape
    bucket = bucket_at(step, config, num_frames)
    chosen = bucket.rows(rows, config.seed)
    generator = random_generator(config.seed, "step", step)
    times = (objective or objective_of(config)).draw_times(
        len(chosen), generator, config.time_distribution, mean=config.time_mean, std=config.time_std
    )
    noise = torch.randn((len(chosen), channels, bucket.length, *sides), generator=generator)
    condition = drop_conditions(
        full_conditions(latents, chosen, architecture),
        num_labels=architecture.num_labels,
        all_probability=config.drop_all,
        label_probability=config.drop_label,
        text_probability=config.drop_text,
        generator=generator,
    ).with_text_noise(config.text_noise, generator)
    which = share(len(chosen))
    mine = chosen[which]
    framed = _frame_times(step, times, config, architecture, bucket.length, objective or objective_of(config))
    counted = None if framed is None else framed.counted
    return Batch(
        rows=mine,
        x_0=_windows(latents.latents(mine), bucket.length, _starts(step, config, len(chosen), num_frames - bucket.length)[which]),
        noise=noise[which],
        time=(times if framed is None else framed.times)[which],
        condition=condition_part(condition, which),
        num_in_step=len(chosen),
        counted=None if counted is None else counted[which],
    )


def _starts(step: int, config: TrainingConfig, count: int, last: int) -> Tensor:
    """Returns at which frame each item's window begins, from numbers of their own: those of whole clips are as ever."""
    return torch.randint(last + 1, (count,), generator=random_generator(config.seed, "windows", step))


def _windows(clips: Float[Tensor, "b c frames h w"], length: int, starts: Int[Tensor, " b"]) -> Float[Tensor, "b c length h w"]:
    """Returns so many frames of each clip, from its start on."""
    if clips.shape[2] == length:
        return clips
    return torch.stack([clip[:, start : start + length] for clip, start in zip(clips, starts.tolist(), strict=True)])


def _frame_times(
    step: int,
    times: Tensor,
    config: TrainingConfig,
    architecture: TransformerConfig,
    frames: int,
    objective: Objective,
) -> FrameTimes | None:
    """Returns times of so many frames, from numbers of their own: all else about a step is the same with them and without."""
    joined = architecture.patch_size[0]
    if config.frame_times == "shared" or frames == joined:  # one place in time goes on from none, and has the step's time
        return None
    generator = random_generator(config.seed, "frame_times", step)
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
    require_fitting_lengths(config, architecture, latents.config.latent_shape[1])
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
