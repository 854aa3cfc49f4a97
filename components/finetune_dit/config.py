"""Configuration of the step that fine-tunes a registered model."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from components.training_choices import OF_MACHINE, TrainingChoices

_ADAPTER = ("rank", "alpha", "targets")
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


class Config(TrainingChoices):
    """How adapters are learnt on a base; objective, noise schedule and defaults for sampling are the base's.

    Attributes:
        base: The registered version to start from; the pipeline fills it in, from `base=MODEL`.
        rank: Width of the adapters.
        alpha: What they add is scaled by `alpha / rank`.
        targets: Layers that get adapters, by name or part of it; attention and MLP of every block where none is named.
        num_steps: Optimiser steps.
        batch_size: Pictures a step; a picture comes again in each pass over the data.
        learning_rate: Peak rate.
        warmup_steps: Steps over which the rate rises.
        ema_decay: Decay of the averaged adapters, which are what is kept.
        checkpoint_every_steps: Steps between checkpoints.
    """

    base: Base | None = None
    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=8.0, gt=0)
    targets: tuple[str, ...] | None = None
    num_steps: int = Field(default=400, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    checkpoint_every_steps: int = Field(default=100, ge=1)

    def adapter_values(self) -> dict[str, Any]:
        """Returns the fields of a `model_core.transformer.adapter_config.AdapterConfig`."""
        return {name: getattr(self, name) for name in _ADAPTER}

    def training_values(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Returns fields of a `model_core.training.config.TrainingConfig`, with those that have to be as the base's.

        Args:
            base: What is on record of the base's training.
        """
        own = {name: value for name, value in self if name not in {"base", *_ADAPTER, *OF_MACHINE}}
        return {**own, **{name: base[name] for name in _OF_BASE if name in base}}
