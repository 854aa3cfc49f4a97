"""What can be set about an evaluation."""

from pydantic import ConfigDict, Field

from model_core.device import DeviceName
from model_core.sampling.names import SamplerName
from model_core.sampling.options import SamplingOptions


class Config(SamplingOptions):
    """Configuration of the step `evaluate`.

    `SamplingOptions` says what else can be set of sampling; the model's defaults hold where it is not.

    Attributes:
        num_samples: Pictures to draw, over the conditions of the holdout in turn.
        sampler: How samples are drawn; the model's own way where this is left out.
        num_steps: Sampling steps; the model's own number where this is left out.
        guidance_scale: Guidance scale; the model's own where this is left out.
        batch_size: Pictures drawn at a time, and between two checkpoints.
        seed: Seed of the samples (one more each picture), of the resampling and of the noise reference.
        feature_size: Side in pixels to which pictures are resized before the feature extractor.
        max_real: Most pictures used of either split, chosen by seed.
        num_resamples: Resamples behind each interval, and replicates kept for comparing models (1,000 at most).
        device: Where samples are drawn and features taken: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        category_accuracy: Whether to judge the categories of samples; needs a dataset with two labels or more.
        utility: Whether to measure what a probe learns from samples beside what it learns from real data, where there are labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_samples: int = Field(default=256, ge=8, le=100_000)
    sampler: SamplerName | None = None
    num_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    batch_size: int = Field(default=32, ge=1, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**31)
    feature_size: int = Field(default=160, ge=32, le=512, multiple_of=32)
    max_real: int = Field(default=5000, ge=8, le=50_000)
    num_resamples: int = Field(default=1000, ge=100, le=100_000)
    device: DeviceName = "auto"
    category_accuracy: bool = True
    utility: bool = True
