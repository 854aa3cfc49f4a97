"""Configurations: what every step's has in common."""

import math
from types import NoneType
from typing import get_args

import pytest
from pydantic import ValidationError

from components.specs import STEPS
from infra.errors import BadSettingError
from pipelines.graph import PIPELINES
from pipelines.params import resolve_params


def _floats() -> list[tuple[str, str]]:
    """Every setting that is a floating-point number, by step and name."""
    fields = [(step, name, field) for step, spec in STEPS.items() for name, field in spec.config_class().model_fields.items()]
    return [(step, name) for step, name, field in fields if float in {field.annotation, *get_args(field.annotation)} - {NoneType}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("step", "name"), _floats())
def test_a_number_that_is_not_finite_is_refused_by_the_settings_name(step: str, name: str, value: float) -> None:
    with pytest.raises(ValidationError) as caught:
        STEPS[step].config_class().model_validate({name: value})
    (problem,) = caught.value.errors()
    assert problem["loc"] == (name,)
    assert "finite" in problem["msg"]


@pytest.mark.parametrize(
    ("pipeline", "step", "name"),
    [(pipeline, step, name) for pipeline, steps in PIPELINES.items() for step, name in _floats() if step in steps],
)
def test_a_run_says_in_one_line_which_setting_is_not_finite(pipeline: str, step: str, name: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        resolve_params(pipeline, settings=[f"{step}.{name}=.nan"])
    assert caught.value.diagnosis == f"{step}.{name}: Input should be a finite number"


def test_a_configuration_that_was_written_down_is_read_as_it_was() -> None:
    for spec in STEPS.values():
        made = spec.config_class()
        assert made.model_validate(made().model_dump(mode="json")) == made()
