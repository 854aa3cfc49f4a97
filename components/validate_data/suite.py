"""A suite: what is expected of a dataset, read from YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_core.errors import BadDataError

FORMAT = "groundswell-suite/1"
DEFAULT_SUITE = Path(__file__).with_name("suite.yaml")

Table = Literal["manifest", "media", "labels", "requests"]
_HINT = "start from the suite that comes with groundswell: components/validate_data/suite.yaml"


class SuiteEntry(BaseModel):
    """One expectation.

    Attributes:
        table: Which table it is about.
        meaning: What it says, in words.
        type: The expectation's name in Great Expectations.
        kwargs: Its arguments.
        severity: Whether data that do not meet it fail the step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Table
    meaning: str = Field(min_length=1, max_length=500)
    type: str = Field(pattern=r"^expect_[a-z_]+$")
    kwargs: dict[str, Any]
    severity: Literal["error", "warning"] = "error"


class Suite(BaseModel):
    """A suite of expectations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["groundswell-suite/1"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$")
    expectations: tuple[SuiteEntry, ...] = Field(min_length=1)


def default_suite_text() -> str:
    """Returns the suite that comes with groundswell."""
    return DEFAULT_SUITE.read_text(encoding="utf-8")


def parse_suite(text: str) -> Suite:
    """Reads a suite.

    Raises:
        BadDataError: It is no YAML, or no suite.
    """
    try:
        return Suite.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise BadDataError(f"the suite is not YAML: {line}", hint=_HINT) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadDataError(f"the suite is wrong at {where}: {first['msg']}", hint=_HINT) from error


def with_values(kwargs: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an expectation's arguments with ``$name`` replaced by its value, also inside lists.

    Raises:
        BadDataError: A name has no value.
    """

    def replaced(value: Any) -> Any:
        if isinstance(value, list):
            return [replaced(item) for item in value]
        if not (isinstance(value, str) and value.startswith("$")):
            return value
        if value[1:] not in values:
            raise BadDataError(
                f"the suite names {value!r}, which has no value", hint=f"values: {', '.join(f'${name}' for name in values)}"
            )
        return values[value[1:]]

    # A regular expression is text of its own, whatever it begins with.
    return {key: value if key.startswith("regex") else replaced(value) for key, value in kwargs.items()}
