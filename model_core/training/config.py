"""How a diffusion transformer is trained, as plain values; importing this imports no tensors."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from model_core.errors import BadModelError

ObjectiveName = Literal["rectified_flow", "epsilon"]
DecayName = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Hyperparameters of a training run; its length is set in steps, so that the same work gives the same weights.

    Attributes:
        objective: What the network learns: rectified flow's velocity, or the noise (P4).
        num_steps: Optimiser steps.
        batch_size: Items a step.
        learning_rate: Peak rate.
        warmup_steps: Steps over which the rate rises from zero.
        decay: How the rate falls after the warm-up.
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
        time_mean: Mean of the logit of rectified flow's times.
        time_std: Standard deviation of the logit of rectified flow's times.
        noise_schedule: Schedule of the epsilon objective.
        num_timesteps: Steps T of that schedule.
        seed: Decides initial weights, data order, noise, times and dropped conditions.
        checkpoint_every_steps: A checkpoint is written after so many steps,
        checkpoint_every_s: or when the last one is so many seconds old, whichever comes first.

    Raises:
        BadModelError: A value is out of range.
    """

    objective: ObjectiveName = "rectified_flow"
    num_steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay: DecayName = "cosine"
    final_rate_fraction: float = 0.0
    weight_decay: float = 0.0
    adam_beta2: float = 0.99
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995
    drop_all: float = 0.1
    drop_label: float = 0.3
    drop_text: float = 0.1
    text_noise: float = 0.0
    time_mean: float = 0.0
    time_std: float = 1.0
    noise_schedule: Literal["linear", "cosine"] = "linear"
    num_timesteps: int = 1000
    seed: int = 0
    checkpoint_every_steps: int = 500
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        for name in ("num_steps", "batch_size", "num_timesteps", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise BadModelError(f"training: {name} is {getattr(self, name)}", hint="choose at least 1")
        for name in ("learning_rate", "max_grad_norm", "time_std"):
            if not getattr(self, name) > 0:
                raise BadModelError(f"training: {name} is {getattr(self, name)}", hint="choose a positive number")
        for name in ("drop_all", "drop_label", "drop_text", "ema_decay", "final_rate_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadModelError(f"training: {name} is {getattr(self, name)}", hint="choose 0 to 1")
        if not 0 <= self.text_noise <= 100:
            raise BadModelError(f"training: text_noise is {self.text_noise}", hint="choose 0 to 100; 0.5 is much")

    def hyperparameters(self) -> dict[str, Any]:
        """Returns all that decides the weights: everything but when checkpoints are written."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("checkpoint_")}
