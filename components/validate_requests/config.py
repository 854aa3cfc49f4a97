"""The configuration of `validate_requests`."""

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """How a table of requests is divided.

    Attributes:
        shard_size: Rows of a part. A row is in the part that its number says, so that a row which is mended or added at the end
            leaves the other parts as they were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shard_size: int = Field(default=50, ge=1, le=10_000)
