"""Configuration of the step that fine-tunes a registered model."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_core.training.config import DecayName, PrecisionName

_ADAPTER = ("rank", "alpha", "targets")
_OF_MACHINE = ("device", "num_processes", "strategy")
# What the base was trained with and its adapters have to be, too.
_OF_BASE = ("time_sampling", "time_mean", "time_std", "frame_times", "context_probability", "min_snr_gamma")


class Base(BaseModel):
    """A registered version to start from.

    Attributes:
        name: The model's name.
        version: Its version.
        root_digest: Root digest of its package.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    version: int = Field(ge=1)
    root_digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class Config(BaseModel):
    """How adapters are learnt on a base; objective, noise schedule and defaults for sampling are the base's.

    Attributes:
        base: The registered version to start from; the pipeline fills it in, from `base=MODEL`.
        rank: Width of the adapters.
        alpha: What they add is scaled by `alpha / rank`.
        targets: Layers that get adapters, by name or part of it; attention and MLP of every block where none is named.
        num_steps: Optimiser steps.
        batch_size: Pictures a step; a picture comes again in each pass over the data.
        accumulate_steps: Parts of a step whose gradients are summed, for less memory.
        learning_rate: Peak rate.
        warmup_steps: Steps over which the rate rises.
        decay: How the rate falls afterwards; `wsd` stays at the peak first.
        decay_fraction: Share of the steps in which `wsd` falls.
        final_rate_fraction: Last rate over peak rate.
        weight_decay: Of AdamW, on matrices.
        adam_beta2: Of AdamW.
        max_grad_norm: Gradients are clipped to this norm.
        ema_decay: Decay of the averaged adapters, which are what is kept.
        drop_all: Probability of training a step's item without any condition (P8).
        drop_label: Probability of dropping the label alone.
        drop_text: Probability of dropping the caption alone.
        text_noise: Length of the noise added to a caption's pooled embedding, itself of length 1.
        precision: Of matmuls: `float32`, `bfloat16`, or `auto` for bfloat16 where the hardware has it.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        num_processes: Processes that share each step's batch, on one machine.
        strategy: Whether each of them has the whole model (`ddp`) or a slice of it (`fsdp`).
        compile: Whether blocks are compiled.
        activation_checkpointing: Whether blocks are computed again in the backward pass, for less memory.
        seed: Decides initial adapters, data order, noise, times and dropped conditions.
        checkpoint_every_steps: A checkpoint is written after so many steps,
        checkpoint_every_s: or when the last one is so many seconds old.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base: Base | None = None
    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=8.0, gt=0)
    targets: tuple[str, ...] | None = None
    num_steps: int = Field(default=400, ge=1)
    batch_size: int = Field(default=16, ge=1)
    accumulate_steps: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    decay: DecayName = "cosine"
    decay_fraction: float = Field(default=0.1, ge=0, le=1)
    final_rate_fraction: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.99, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
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
    checkpoint_every_steps: int = Field(default=100, ge=1)
    checkpoint_every_s: float = Field(default=60.0, gt=0)

    def adapter_values(self) -> dict[str, Any]:
        """Returns the fields of a `model_core.transformer.adapter_config.AdapterConfig`."""
        return {name: getattr(self, name) for name in _ADAPTER}

    def training_values(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Returns fields of a `model_core.training.config.TrainingConfig`, with those that have to be as the base's.

        Args:
            base: What is on record of the base's training.
        """
        own = {name: value for name, value in self if name not in {"base", *_ADAPTER, *_OF_MACHINE}}
        return {**own, **{name: base[name] for name in _OF_BASE if name in base}}
