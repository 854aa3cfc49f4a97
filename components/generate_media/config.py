"""Configuration of the step that makes pictures and clips."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from components.generate_media.formats import MAX_UPSCALE, MediaFormat
from model_core.device import DeviceName
from model_core.sampling.names import SamplerName
from model_core.sampling.options import DEFAULT_NUM_PASSES, SamplingOptions

MemorisationMode = Literal["withhold", "flag", "off"]


class Config(SamplingOptions):
    """How pictures and clips are made; what they show is in the request, which is not a part of any record.

    `SamplingOptions` says what else can be set; the model's defaults hold where it is not.

    Attributes:
        num_images: How many pictures or clips.
        num_frames: Frames of each clip; the model's own number if not given, more where it has learnt to go on.
        upscale: Times that they are enlarged along each side before they are marked and written.
        media_format: What they are written as; PNG for pictures and MP4 for clips if not given.
        seed: Each sample's own seed follows from this and its number.
        sampler: How to go from noise to a sample; the model's default if not given.
        num_steps: Steps of the sampler; the model's default if not given.
        guidance_scale: How strongly the request is followed; the model's default if not given.
        batch_size: Pictures or clips at a time; as many as make 256 tokens, at most 8, if not given.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        watermark: Whether the pixels get the home's invisible mark, where they have room for it.
        strength: Share of the path from noise to data that the request's source is taken back and forth: 0 returns what the codec
            makes of it, 1 keeps nothing of it. Needed where there is a source, and 1 if not given where frames are kept.
        keep_frames: Which frames of the source stay, counted from 0, while the others are made to go with them.
        num_passes: How often each step is taken where frames are kept: more fit them better, and take longer.
        memorisation: What becomes of samples that are near-copies of a training item: `withhold`, `flag`, or `off` for no check.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_images: int = Field(default=4, ge=1, le=10_000)
    num_frames: int | None = Field(default=None, ge=1, le=100_000)
    upscale: int = Field(default=1, ge=1, le=MAX_UPSCALE)
    media_format: MediaFormat | None = None
    seed: int = Field(default=0, ge=0)
    sampler: SamplerName | None = None
    num_steps: int | None = Field(default=None, ge=1, le=10_000)
    guidance_scale: float | None = None
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    device: DeviceName = "auto"
    watermark: bool = True
    strength: float | None = Field(default=None, ge=0, le=1)
    keep_frames: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), max_length=100_000)
    num_passes: int = Field(default=DEFAULT_NUM_PASSES, ge=1, le=1000)
    memorisation: MemorisationMode = "withhold"
