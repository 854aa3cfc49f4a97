"""The configuration of `plan_encoding`; each value is that of `encode_latents`."""

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """How a dataset is divided.

    Attributes:
        parts: Into how many parts, where there are as many shards of latents.
        shard_size: Items in a shard; parts are of whole shards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    parts: int = Field(default=1, ge=1, le=1000)
    shard_size: int = Field(default=512, ge=1)
