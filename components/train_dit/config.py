"""Configuration of the step that trains the diffusion transformer."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_core.diffusion.names import FrameTimesName, ObjectiveName, ScheduleName, TimeSamplingName
from model_core.sampling.names import SamplerName
from model_core.sampling.options import CacheInterval, DdpmVariance, GuidanceInterval, SamplingOptions, Share, TimeShift
from model_core.training.config import DecayName, PrecisionName
from model_core.transformer.config import AttentionName, MlpName, ModulationName, NormName, PositionsName, TextConditioningName

_SIZES = ("patch_size", "hidden_size", "depth", "num_heads", "mlp_ratio", "norm", "mlp", "qk_norm")
_VARIANTS = ("positions", "modulation", "attention", "text_conditioning", "long_skips", "learn_variance")
_OPTIONS = tuple(f"sampling_{name}" for name in SamplingOptions.model_fields)
_OF_MACHINE = ("device", "num_processes", "strategy")
_OF_SAMPLING = ("sampling_num_steps", "guidance_scale", "sampler", *_OPTIONS)


class Config(BaseModel):
    """How the transformer looks, is trained, and is sampled by default; chosen by ``benchmarks/recipes.py``.

    Attributes:
        objective: `rectified_flow`, or on a noise schedule `epsilon` (P4), `x0` or `v`.
        num_steps: Optimiser steps; a budget in steps gives the same model on every machine of a kind.
        batch_size: Pictures a step.
        accumulate_steps: Parts of a step whose gradients are summed, for less memory.
        learning_rate: Peak rate.
        warmup_steps: Steps over which the rate rises.
        decay: How the rate falls afterwards; `wsd` stays at the peak first.
        decay_fraction: Share of the steps in which `wsd` falls.
        final_rate_fraction: Last rate over peak rate.
        weight_decay: Of AdamW, on matrices.
        adam_beta2: Of AdamW.
        max_grad_norm: Gradients are clipped to this norm.
        ema_decay: Decay of the averaged weights, which are the model.
        drop_all: Probability of training a step's item without any condition (P8).
        drop_label: Probability of dropping the label alone.
        drop_text: Probability of dropping the caption alone.
        text_noise: Length of the noise added to a caption's pooled embedding, itself of length 1.
        whiten_captions: Whether the layer that reads pooled captions starts with what tells those of the dataset apart.
        time_sampling: `uniform` or `logit_normal` times; the objective's own way if not given.
        time_mean: Mean of the logit of logit-normal times.
        time_std: Standard deviation of the logit of logit-normal times.
        frame_times: Whether the frames of a clip are trained at one time (`shared`), the first of them nearly clean as `context`,
            or each at a time of its own (`independent`); models of the latter two make clips of any length.
        context_probability: Share of clips whose first frames are context.
        noise_schedule: Of the objectives other than rectified flow.
        num_timesteps: Of that schedule.
        zero_terminal_snr: Whether that schedule ends in noise alone; for `v` and `x0`.
        learn_variance: Whether the reverse process's variance is learnt too (P2).
        min_snr_gamma: Bound of the signal-to-noise weight of the loss; 5 is usual, none if not given.
        precision: Of matmuls: `float32`, `bfloat16`, or `auto` for bfloat16 where the hardware has it.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        num_processes: Processes that share each step's batch, on one machine: one a GPU, or sharing the CPU's threads.
        strategy: Whether each of them has the whole model (`ddp`) or a slice of it (`fsdp`).
        compile: Whether blocks are compiled.
        activation_checkpointing: Whether blocks are computed again in the backward pass, for less memory.
        preset: An architecture by name, such as `DiT-S/2` or `DiT-B/2-modern`, in place of patch_size, hidden_size, depth,
            num_heads, mlp_ratio, norm, mlp and qk_norm, which must then be left at their defaults.
        hidden_size: Width of the transformer.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Width of a block's hidden layer over the transformer's.
        patch_size: Latent positions a token along frames, height, width.
        norm: `layer` or `rms`.
        mlp: `gelu` or `swiglu`.
        positions: `sinusoid`, or `rope` for a model that is to work on grids larger than those that it is trained on; beside a
            preset, too.
        qk_norm: Whether queries and keys are normalised.
        modulation: A modulation of its own for each block, or one that all share.
        attention: Over all tokens at once, or over space and time in turn.
        text_conditioning: How captions are read: `pooled` embeddings, their tokens by `cross_attention`, or not at all.
        long_skips: Whether the first half's tokens are led past the middle.
        sampling_num_steps: Default steps of sampling.
        guidance_scale: Default guidance scale of sampling.
        sampler: Default sampler; the objective's own if not given.
        sampling_guidance_interval: Default times at which guidance holds, from 0 (data) to 1 (noise); always if not given.
        sampling_guidance_rescale: Default share of the correction of contrast under guidance; none if not given.
        sampling_time_shift: Default shift of rectified flow's times towards noise in sampling; none if not given.
        sampling_cache_interval: Default interval of the feature cache; no cache if not given.
        sampling_eta: Default share of DDPM's noise that DDIM adds; none if not given.
        sampling_ddpm_variance: Default fixed variance of DDPM, `small` or `large`; the small one if not given.
        seed: Decides weights, data order and noise.
        checkpoint_every_steps: Steps between checkpoints.
        checkpoint_every_s: Seconds between checkpoints, if that is sooner.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: ObjectiveName = "rectified_flow"
    num_steps: int = Field(default=1200, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate_steps: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    decay: DecayName = "cosine"
    decay_fraction: float = Field(default=0.1, ge=0, le=1)
    final_rate_fraction: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.99, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    drop_all: float = Field(default=0.1, ge=0, le=1)
    drop_label: float = Field(default=0.3, ge=0, le=1)
    drop_text: float = Field(default=0.1, ge=0, le=1)
    text_noise: float = Field(default=0.5, ge=0, le=100)
    whiten_captions: bool = False
    time_sampling: TimeSamplingName | None = None
    time_mean: float = 0.0
    time_std: float = Field(default=1.0, gt=0)
    frame_times: FrameTimesName = "shared"
    context_probability: float = Field(default=0.5, ge=0, le=1)
    noise_schedule: ScheduleName = "linear"
    num_timesteps: int = Field(default=1000, ge=1)
    zero_terminal_snr: bool = False
    learn_variance: bool = False
    min_snr_gamma: float | None = Field(default=None, gt=0)
    precision: PrecisionName = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_processes: int = Field(default=1, ge=1, le=64)
    strategy: Literal["ddp", "fsdp"] = "ddp"
    compile: bool = False
    activation_checkpointing: bool = False
    preset: str | None = None
    hidden_size: int = Field(default=256, ge=4)
    depth: int = Field(default=6, ge=1)
    num_heads: int = Field(default=4, ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    patch_size: tuple[int, int, int] = (1, 2, 2)
    norm: NormName = "layer"
    mlp: MlpName = "gelu"
    positions: PositionsName = "sinusoid"
    qk_norm: bool = False
    modulation: ModulationName = "block"
    attention: AttentionName = "full"
    text_conditioning: TextConditioningName = "pooled"
    long_skips: bool = False
    sampling_num_steps: int = Field(default=20, ge=1)
    guidance_scale: float = 3.0
    sampler: SamplerName | None = None
    sampling_guidance_interval: GuidanceInterval | None = None
    sampling_guidance_rescale: Share | None = None
    sampling_time_shift: TimeShift | None = None
    sampling_cache_interval: CacheInterval | None = None
    sampling_eta: Share | None = None
    sampling_ddpm_variance: DdpmVariance | None = None
    seed: int = Field(default=0, ge=0)
    checkpoint_every_steps: int = Field(default=500, ge=1)
    checkpoint_every_s: float = Field(default=60.0, gt=0)

    def training_values(self) -> dict[str, Any]:
        """Returns the fields of a `model_core.training.config.TrainingConfig`."""
        other = {*_SIZES, *_VARIANTS, *_OF_SAMPLING, *_OF_MACHINE, "preset"} - {"learn_variance"}
        return {name: value for name, value in self if name not in other}

    def sampling_values(self) -> dict[str, Any]:
        """Returns the fields of a `model_core.transformer.model_config.SamplingDefaults`."""
        options = {name: getattr(self, f"sampling_{name}") for name in SamplingOptions.model_fields}
        return {
            "num_steps": self.sampling_num_steps,
            "guidance_scale": self.guidance_scale,
            "sampler": self.sampler,
            **options,
        }

    def size_values(self) -> dict[str, Any]:
        """Returns the fields of a `TransformerConfig` that a preset decides in their place."""
        return {name: getattr(self, name) for name in _SIZES}

    def variant_values(self) -> dict[str, Any]:
        """Returns the other fields of a `TransformerConfig` that the data do not decide."""
        return {name: getattr(self, name) for name in _VARIANTS}
