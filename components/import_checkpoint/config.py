"""Configuration of the step that imports a published checkpoint."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_LINE = r"^[^\x00-\x1f\x7f]+$"


class Config(BaseModel):
    """What a published checkpoint is, and under which name it is registered.

    Attributes:
        name: The name to register the model under.
        layout: `facebook-dit`, a `.pt` file of facebookresearch/DiT, or `diffusers`, a folder of a DiTPipeline.
        origin: Where it was got from, such as an address; as whoever imports it says.
        licence: Its licence, an SPDX identifier or text; as whoever imports it says.
        files: SHA-256 of the files that were given, by name.
        num_heads: Attention heads, where a `.pt` file's sizes are none of the paper's.
        labels: Names of its labels, in order; the checkpoint's own, or numbers, where none are given.
        codec_scaling_factor: Scale factor of an AutoencoderKL whose configuration names none.
        code_digests: Digests of the code that imported it, by step; the runtime fills them in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(default="imported-dit", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    layout: Literal["facebook-dit", "diffusers"] = "facebook-dit"
    origin: str = Field(default="not stated", pattern=_LINE, max_length=500)
    licence: str = Field(default="NOASSERTION", pattern=_LINE, max_length=200)
    files: Mapping[str, str] = Field(default_factory=dict)
    num_heads: int | None = Field(default=None, ge=1, le=256)
    labels: tuple[str, ...] | None = None
    codec_scaling_factor: float | None = Field(default=None, gt=0)
    code_digests: Mapping[str, str] = Field(default_factory=dict)
