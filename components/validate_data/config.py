"""The configuration of `validate_data`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Config(BaseModel):
    """What to check a dataset against.

    Attributes:
        suite: The suite of expectations, as YAML text; the suite that comes with groundswell when None. Given the path of a
            file, the file is read at once, so that a configuration (and its fingerprint) always holds what is checked.
        similar_within: How far apart pictures may be to be called similar, as root mean square difference of 16x16
            thumbnails in levels from 0 to 255. The suite decides which distances are too small.
        compare_at_most: With more items than this, similar pictures are not looked for; equal ones always are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    suite: str | None = None
    similar_within: float = Field(default=8.0, ge=0.0, le=64.0)
    compare_at_most: int = Field(default=100_000, ge=0)

    @field_validator("suite")
    @classmethod
    def _read_file(cls, value: str | None) -> str | None:
        if value is None or "\n" in value:
            return value
        path = Path(value)
        if not path.is_file():
            raise ValueError(f"there is no suite file {value!r}")
        return path.read_text(encoding="utf-8")
