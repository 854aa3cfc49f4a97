"""Configuration of the step that trains the diffusion transformer."""

from typing import Any

from pydantic import Field

from components.training_choices import OF_MACHINE, TrainingChoices
from model_core.diffusion.names import FrameTimesName, ObjectiveName, ScheduleName, TimeSamplingName
from model_core.sampling.names import SamplerName
from model_core.sampling.options import CacheInterval, DdpmVariance, GuidanceInterval, SamplingOptions, Share, TimeShift
from model_core.transformer.config import AttentionName, MlpName, ModulationName, NormName, PositionsName, TextConditioningName

_SIZES = ("patch_size", "hidden_size", "depth", "num_heads", "mlp_ratio", "norm", "mlp", "qk_norm")
_VARIANTS = ("positions", "modulation", "attention", "text_conditioning", "long_skips", "learn_variance")
_OPTIONS = tuple(f"sampling_{name}" for name in SamplingOptions.model_fields)
_OF_SAMPLING = ("sampling_num_steps", "guidance_scale", "sampler", *_OPTIONS)


class Config(TrainingChoices):
    """How the transformer looks, is trained, and is sampled by default; chosen by ``benchmarks/recipes.py``.

    Attributes:
        objective: `rectified_flow`, or on a noise schedule `epsilon` (P4), `x0` or `v`.
        num_steps: Optimiser steps; a budget in steps gives the same model on every machine of a kind.
        batch_size: Pictures a step.
        learning_rate: Peak rate.
        warmup_steps: Steps over which the rate rises.
        ema_decay: Decay of the averaged weights, which are the model.
        whiten_captions: Whether the network learns from what tells the dataset's pooled captions apart, all at one scale.
        time_sampling: `uniform` or `logit_normal` times; the objective's own way if not given.
        time_mean: Mean of the logit of logit-normal times.
        time_std: Standard deviation of the logit of logit-normal times.
        frame_times: Whether the frames of a clip are trained at one time (`shared`), the first of them nearly clean as `context`,
            or each at a time of its own (`independent`); models of the latter two make clips of any length.
        context_probability: Share of clips whose first frames are context.
        clip_lengths: Latent frames of what steps are trained on, in turn: `[16, 4]` is whole clips of 16 and windows of 4, four
            times as many; 1 is pictures. Whole clips if empty.
        noise_schedule: Of the objectives other than rectified flow.
        num_timesteps: Of that schedule.
        zero_terminal_snr: Whether that schedule ends in noise alone; for `v` and `x0`.
        learn_variance: Whether the reverse process's variance is learnt too (P2).
        min_snr_gamma: Bound of the signal-to-noise weight of the loss; 5 is usual, none if not given.
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
        checkpoint_every_steps: Steps between checkpoints.
    """

    objective: ObjectiveName = "rectified_flow"
    num_steps: int = Field(default=1200, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    whiten_captions: bool = False
    time_sampling: TimeSamplingName | None = None
    time_mean: float = 0.0
    time_std: float = Field(default=1.0, gt=0)
    frame_times: FrameTimesName = "shared"
    context_probability: float = Field(default=0.5, ge=0, le=1)
    clip_lengths: tuple[int, ...] = ()
    noise_schedule: ScheduleName = "linear"
    num_timesteps: int = Field(default=1000, ge=1)
    zero_terminal_snr: bool = False
    learn_variance: bool = False
    min_snr_gamma: float | None = Field(default=None, gt=0)
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
    checkpoint_every_steps: int = Field(default=500, ge=1)

    def training_values(self) -> dict[str, Any]:
        """Returns the fields of a `model_core.training.config.TrainingConfig`."""
        other = {*_SIZES, *_VARIANTS, *_OF_SAMPLING, *OF_MACHINE, "preset"} - {"learn_variance"}
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
