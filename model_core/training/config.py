"""How a diffusion transformer is trained, as plain values; importing this imports no tensors."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from model_core.diffusion.names import FrameTimesName, ObjectiveName, ScheduleName, TimeSamplingName
from model_core.errors import BadModelError

DecayName = Literal["cosine", "linear", "constant", "wsd"]
PrecisionName = Literal["float32", "bfloat16", "auto"]

_CHOICES = {
    "objective": get_args(ObjectiveName),
    "decay": get_args(DecayName),
    "precision": get_args(PrecisionName),
    "noise_schedule": get_args(ScheduleName),
    "time_sampling": (None, *get_args(TimeSamplingName)),
    "frame_times": get_args(FrameTimesName),
}
_MAX_LENGTHS = 64
_SHARES = ("drop_all", "drop_label", "drop_text", "context_probability")
_NOT_IN_THE_WEIGHTS = ("checkpoint_every_steps", "checkpoint_every_s", "activation_checkpointing")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Hyperparameters of a training run; its length is set in steps, so that the same work gives the same weights.

    Attributes:
        objective: What the network learns: rectified flow's velocity, or on a noise schedule's path the noise (P4), x_0 or v.
        num_steps: Optimiser steps.
        batch_size: Items a step, over all processes.
        accumulate_steps: Parts into which a process cuts its items; their gradients are summed, so that a step needs the memory
            of one part and gives the same gradients but for rounding.
        learning_rate: Peak rate.
        warmup_steps: Steps over which the rate rises from zero.
        decay: How the rate falls after the warm-up; `wsd` stays at the peak (warm-up, stable, decay).
        decay_fraction: The share of all steps in which `wsd` falls, at the end.
        final_rate_fraction: The last rate over the peak.
        weight_decay: AdamW's decoupled weight decay, on matrices only.
        adam_beta2: AdamW's second moment decay.
        max_grad_norm: Gradients are scaled down to this norm.
        ema_decay: Decay of the averaged weights once warmed up.
        drop_all: Probability that label and caption are both dropped (P8).
        drop_label: Probability that the label alone is dropped, where not both are.
        drop_text: Probability that the caption alone is dropped, where not both are.
        text_noise: Length of the noise added to a caption's embedding, itself of length 1: it keeps the network from learning
            pictures by heart from their captions, and gives a meaning to new captions near known ones.
        whiten_captions: The network learns from what tells the training items' pooled captions apart, each difference at one
            scale: for captions that are built alike. `text_noise` is then noise on that.
        time_sampling: How often each time is trained on; None for the objective's own: logit-normal for rectified flow,
            uniform for the others.
        time_mean: Mean of the logit of logit-normal times.
        time_std: Standard deviation of the logit of logit-normal times.
        frame_times: Whether the frames of a clip are trained at one time (`shared`), the first of them nearly clean as what the
            others go on from (`context`), or each at a time of its own (`independent`, Diffusion Forcing). The latter two learn
            to make clips longer.
        context_probability: Share of clips that have such first frames, with `context`.
        noise_schedule: Schedule of the objectives other than rectified flow.
        num_timesteps: Steps T of that schedule.
        zero_terminal_snr: It is rescaled so that its last step is noise alone (Lin 2023, arXiv 2305.08891).
        learn_variance: The network also learns the reverse process's variance (P2), with the hybrid loss.
        min_snr_gamma: Bound of the signal-to-noise weight (Hang 2023, arXiv 2303.09556); None for no weighting.
        precision: Of the matmuls; weights, moments, averages and the loss are float32 always. `auto` is `bfloat16` where
            the hardware has units for it.
        compile: Blocks are compiled by `torch.compile`: a minute at the start, then faster steps; results differ by rounding.
        activation_checkpointing: Blocks are computed again in the backward pass, for less memory and a third more time.
        clip_lengths: Latent frames of what steps are trained on, step by step in this order and again from its beginning; 1 is a
            picture. A step takes as many more items as its windows of clips are shorter, so that all steps see as many tokens:
            pictures and clips, or clips of several lengths, are learnt together. Whole clips if empty.
        seed: Decides initial weights, data order, noise, times and dropped conditions.
        checkpoint_every_steps: A checkpoint is written after so many steps,
        checkpoint_every_s: or when the last one is so many seconds old, whichever comes first.

    Raises:
        BadModelError: A value is out of range.
    """

    objective: ObjectiveName = "rectified_flow"
    num_steps: int = 1500
    batch_size: int = 32
    accumulate_steps: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay: DecayName = "cosine"
    decay_fraction: float = 0.1
    final_rate_fraction: float = 0.0
    weight_decay: float = 0.0
    adam_beta2: float = 0.99
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995
    drop_all: float = 0.1
    drop_label: float = 0.3
    drop_text: float = 0.1
    text_noise: float = 0.0
    whiten_captions: bool = False
    time_sampling: TimeSamplingName | None = None
    time_mean: float = 0.0
    time_std: float = 1.0
    frame_times: FrameTimesName = "shared"
    context_probability: float = 0.5
    noise_schedule: ScheduleName = "linear"
    num_timesteps: int = 1000
    zero_terminal_snr: bool = False
    learn_variance: bool = False
    min_snr_gamma: float | None = None
    precision: PrecisionName = "float32"
    compile: bool = False
    activation_checkpointing: bool = False
    clip_lengths: tuple[int, ...] = ()
    seed: int = 0
    checkpoint_every_steps: int = 500
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        self._require_known_names()
        self._require_finite()
        self._require_in_range()
        if self.accumulate_steps > self.batch_size:
            raise _refusal("accumulate_steps", self.accumulate_steps, f"choose at most batch_size, {self.batch_size}")
        self._require_fitting_objective()

    def _require_known_names(self) -> None:
        """Refuses names of nothing."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise _refusal(name, getattr(self, name), "choose " + ", ".join(choice for choice in choices if choice))

    def _require_finite(self) -> None:
        """Refuses what is no number, and numbers without end."""
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise _refusal(name, value, "choose a finite number")

    def _require_in_range(self) -> None:
        """Refuses numbers that make no sense."""
        for name in ("num_steps", "batch_size", "accumulate_steps", "num_timesteps", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise _refusal(name, getattr(self, name), "choose at least 1")
        for name in ("learning_rate", "max_grad_norm", "time_std", "min_snr_gamma"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise _refusal(name, getattr(self, name), "choose a positive number")
        for name in (*_SHARES, "ema_decay", "final_rate_fraction", "decay_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise _refusal(name, getattr(self, name), "choose 0 to 1")
        if not self.warmup_steps >= 0:
            raise _refusal("warmup_steps", self.warmup_steps, "choose at least 0")
        if len(self.clip_lengths) > _MAX_LENGTHS or not all(length >= 1 for length in self.clip_lengths):
            raise _refusal(
                "clip_lengths", list(self.clip_lengths), f"give at most {_MAX_LENGTHS} lengths of 1 latent frame or more"
            )
        if not 0 <= self.text_noise <= 100:
            raise _refusal("text_noise", self.text_noise, "choose 0 to 100; 0.5 is much")

    def _require_fitting_objective(self) -> None:
        """Refuses options that the objective does not know."""
        if self.learn_variance and self.frame_times != "shared":
            raise BadModelError(
                "training: the bound by which learn_variance learns knows one time a clip", hint="choose frame_times shared"
            )
        if self.objective != "rectified_flow":
            return
        for name in ("zero_terminal_snr", "learn_variance"):
            if getattr(self, name):
                raise BadModelError(
                    f"training: {name} goes with a noise schedule, which rectified_flow has not",
                    hint="choose the objective epsilon, x0 or v, or leave it out",
                )

    @property
    def time_distribution(self) -> TimeSamplingName:
        """How often each time is trained on, with the objective's own way filled in."""
        return self.time_sampling or ("logit_normal" if self.objective == "rectified_flow" else "uniform")

    def hyperparameters(self) -> dict[str, Any]:
        """Returns all that decides the weights, as JSON has it: not when checkpoints are written, nor what is computed twice."""
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_IN_THE_WEIGHTS}
        lengths = values.pop("clip_lengths")
        return values | ({"clip_lengths": list(lengths)} if lengths else {})


def _refusal(name: str, value: object, hint: str) -> BadModelError:
    return BadModelError(f"training: {name} is {value}", hint=hint)
