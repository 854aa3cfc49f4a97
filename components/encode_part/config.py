"""The configuration of `encode_part`; but for the part's number, each value is that of `encode_latents`."""

from pydantic import BaseModel, ConfigDict, Field

from model_core.device import DeviceName


class Config(BaseModel):
    """How a part is encoded.

    Attributes:
        part: Its number in the plan.
        batch_size: Pictures, or frames of clips, encoded at a time.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    part: int = Field(default=0, ge=0)
    batch_size: int = Field(default=32, ge=1)
    device: DeviceName = "auto"
