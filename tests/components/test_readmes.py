"""Each step's README names every setting, and the defaults that it tells are those that hold."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.specs import STEPS

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"`([^`]+)`")


def readme(step: str) -> str:
    return (ROOT / "components" / step / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("step", STEPS)
def test_every_setting_stands_in_the_readme(step: str) -> None:
    rows = [line for line in readme(step).splitlines() if line.startswith("|")]
    named = {name for line in rows for name in _CODE.findall(line)}
    assert set(STEPS[step].config_class().model_fields) - named == set()


def _told_defaults(step: str) -> dict[str, str]:
    """The defaults of the README's tables of three columns, by setting."""
    found: dict[str, str] = {}
    for line in readme(step).splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 3 or not (names := _CODE.findall(cells[0])):
            continue
        defaults = re.split(r", (?![^(]*\))", cells[1])
        found |= dict(zip(names, defaults if len(defaults) == len(names) else [cells[1]] * len(names), strict=True))
    return found


def _says(told: str, default: Any) -> bool:
    if isinstance(default, float):
        return float(told) == default
    value = yaml.safe_load(told.strip("`").replace("(", "[").replace(")", "]"))
    return value == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("step", ["train_dit", "finetune_dit", "evaluate", "generate_media", "encode_latents", "train_codec"])
def test_the_defaults_that_the_readme_tells_are_those_that_hold(step: str) -> None:
    defaults = {name: field.default for name, field in STEPS[step].config_class().model_fields.items()}
    told = _told_defaults(step)
    assert set(defaults) <= set(told)
    assert {name: told[name] for name in defaults if defaults[name] is not None and not _says(told[name], defaults[name])} == {}
