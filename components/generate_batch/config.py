"""The configuration of `generate_batch`."""

from collections.abc import Mapping

from pydantic import ConfigDict, Field

from components.generate_media.formats import MAX_UPSCALE, MediaFormat
from model_core.device import DeviceName
from model_core.sampling.names import SamplerName
from model_core.sampling.options import SamplingOptions


class Config(SamplingOptions):
    """How the rows of a table are made where they do not say otherwise.

    `SamplingOptions` says what else can be set; the model's defaults hold where it is not.

    Attributes:
        num_frames: Frames of each clip; the model's own number if not given.
        upscale: Times that they are enlarged along each side.
        media_format: What they are written as; PNG for pictures and MP4 for clips if not given.
        seed: A row without a seed of its own has this and its number in the table.
        sampler: How to go from noise to a sample; the model's default if not given.
        num_steps: Steps of the sampler; the model's default if not given.
        guidance_scale: How strongly the request is followed; the model's default if not given.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        model: ``name/version``; whoever begins the run fills it in, as those below.
        watermark: Whether the pixels get the home's invisible mark.
        guardrails: The digest of the policy that requests are held to.
        made_by: Digests of the code that makes them, by what it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_frames: int | None = Field(default=None, ge=1, le=100_000)
    upscale: int = Field(default=1, ge=1, le=MAX_UPSCALE)
    media_format: MediaFormat | None = None
    seed: int = Field(default=0, ge=0, le=2**53 - 1)
    sampler: SamplerName | None = None
    num_steps: int | None = Field(default=None, ge=1, le=10_000)
    guidance_scale: float | None = None
    device: DeviceName = "auto"
    model: str | None = None
    watermark: bool = True
    guardrails: str | None = None
    made_by: Mapping[str, str] = Field(default_factory=dict)
