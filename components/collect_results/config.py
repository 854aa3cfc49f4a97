"""The configuration of `collect_results`."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
