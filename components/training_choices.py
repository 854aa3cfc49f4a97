"""What the steps that train a transformer can be told alike."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from model_core.training.config import DecayName, PrecisionName

OF_MACHINE = ("device", "num_processes", "strategy")
"""Choices of where, which `model_core.training.config.TrainingConfig` does not have."""


class TrainingChoices(BaseModel):
    """How a transformer, or what is added to one, is trained; beside it each step has its own length and rate.

    Attributes:
        accumulate_steps: Parts of a step whose gradients are summed, for less memory.
        decay: How the rate falls afterwards; `wsd` stays at the peak first.
        decay_fraction: Share of the steps in which `wsd` falls.
        final_rate_fraction: Last rate over peak rate.
        weight_decay: Of AdamW, on matrices.
        adam_beta2: Of AdamW.
        max_grad_norm: Gradients are clipped to this norm.
        drop_all: Probability of training a step's item without any condition (P8).
        drop_label: Probability of dropping the label alone.
        drop_text: Probability of dropping the caption alone.
        text_noise: Length of the noise added to a caption's pooled embedding, itself of length 1.
        precision: Of matmuls: `float32`, `bfloat16`, or `auto` for bfloat16 where the hardware has it.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        num_processes: Processes that share each step's batch, on one machine: one a GPU, or sharing the CPU's threads.
        strategy: Whether each of them has the whole model (`ddp`) or a slice of it (`fsdp`).
        compile: Whether blocks are compiled.
        activation_checkpointing: Whether blocks are computed again in the backward pass, for less memory.
        seed: Decides initial weights, data order, noise, times and dropped conditions.
        checkpoint_every_s: Seconds after which a checkpoint is written, if it is sooner than by steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accumulate_steps: int = Field(default=1, ge=1)
    decay: DecayName = "cosine"
    decay_fraction: float = Field(default=0.1, ge=0, le=1)
    final_rate_fraction: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.99, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    drop_all: float = Field(default=0.1, ge=0, le=1)
    drop_label: float = Field(default=0.3, ge=0, le=1)
    drop_text: float = Field(default=0.1, ge=0, le=1)
    text_noise: float = Field(default=0.5, ge=0, le=100)
    precision: PrecisionName = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_processes: int = Field(default=1, ge=1, le=64)
    strategy: Literal["ddp", "fsdp"] = "ddp"
    compile: bool = False
    activation_checkpointing: bool = False
    seed: int = Field(default=0, ge=0)
    checkpoint_every_s: float = Field(default=60.0, gt=0)
