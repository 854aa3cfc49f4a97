"""What the step can be told."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Configuration of register_model.

    Attributes:
        name: The name to register the model under.
        code_digests: Digests of the code that made it, by step; the runtime fills them in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(default="groundswell-dit", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    code_digests: Mapping[str, str] = Field(default_factory=dict)
