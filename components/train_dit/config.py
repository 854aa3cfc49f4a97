"""Configuration of the step that trains the diffusion transformer."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """How the transformer looks, is trained, and is sampled by default; chosen by ``benchmarks/recipes.py``.

    Attributes:
        objective: `rectified_flow`, or `epsilon` (P4).
        num_steps: Optimiser steps; a budget in steps gives the same model on every machine of a kind.
        batch_size: Pictures a step.
        learning_rate: Peak rate.
        warmup_steps: Steps over which the rate rises.
        decay: How the rate falls afterwards.
        final_rate_fraction: Last rate over peak rate.
        weight_decay: Of AdamW, on matrices.
        adam_beta2: Of AdamW.
        max_grad_norm: Gradients are clipped to this norm.
        ema_decay: Decay of the averaged weights, which are the model.
        drop_all: Probability of training a step's item without any condition (P8).
        drop_label: Probability of dropping the label alone.
        drop_text: Probability of dropping the caption alone.
        text_noise: Length of the noise added to a caption's embedding, itself of length 1.
        time_mean: Mean of the logit of rectified flow's times.
        time_std: Standard deviation of the logit of rectified flow's times.
        noise_schedule: Of the epsilon objective.
        num_timesteps: Of the epsilon objective.
        hidden_size: Width of the transformer.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Width of a block's hidden layer over the transformer's.
        patch_size: Latent positions a token along frames, height, width.
        sampling_num_steps: Default steps of sampling.
        guidance_scale: Default guidance scale of sampling.
        seed: Decides weights, data order and noise.
        checkpoint_every_steps: Steps between checkpoints.
        checkpoint_every_s: Seconds between checkpoints, if that is sooner.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["rectified_flow", "epsilon"] = "rectified_flow"
    num_steps: int = Field(default=1200, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_rate_fraction: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.99, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    drop_all: float = Field(default=0.1, ge=0, le=1)
    drop_label: float = Field(default=0.3, ge=0, le=1)
    drop_text: float = Field(default=0.1, ge=0, le=1)
    text_noise: float = Field(default=0.5, ge=0, le=100)
    time_mean: float = 0.0
    time_std: float = Field(default=1.0, gt=0)
    noise_schedule: Literal["linear", "cosine"] = "linear"
    num_timesteps: int = Field(default=1000, ge=1)
    hidden_size: int = Field(default=256, ge=4)
    depth: int = Field(default=6, ge=1)
    num_heads: int = Field(default=4, ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    patch_size: tuple[int, int, int] = (1, 2, 2)
    sampling_num_steps: int = Field(default=20, ge=1)
    guidance_scale: float = 3.0
    seed: int = Field(default=0, ge=0)
    checkpoint_every_steps: int = Field(default=500, ge=1)
    checkpoint_every_s: float = Field(default=60.0, gt=0)

    def training_values(self) -> dict[str, Any]:
        """Returns the fields of a `model_core.training.config.TrainingConfig`."""
        other = {"hidden_size", "depth", "num_heads", "mlp_ratio", "patch_size", "sampling_num_steps", "guidance_scale"}
        return {name: value for name, value in self if name not in other}

    def architecture_values(self) -> dict[str, Any]:
        """Returns the fields of a `TransformerConfig` that the data do not decide."""
        return {name: getattr(self, name) for name in ("hidden_size", "depth", "num_heads", "mlp_ratio", "patch_size")}
