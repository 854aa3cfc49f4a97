"""Parameters: typed, complete, and refused by name."""

from pathlib import Path

import pytest

from infra.errors import BadSettingError
from pipelines.params import resolve_params


def test_settings_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("evaluate: {num_samples: 64, seed: 3}\n")
    params = resolve_params("training", params_file=file, settings=["evaluate.num_samples=32"])
    evaluate = params.step_configs()["evaluate"]
    assert (evaluate["num_samples"], evaluate["seed"]) == (32, 3)


@pytest.mark.parametrize(
    ("setting", "problem", "hint"),
    [
        ("evaluate.num_sample=3", "unknown parameter 'evaluate.num_sample'", "evaluate.num_samples"),
        ("evaluate.num_samples=many", "evaluate.num_samples", "parameters"),
        ("evaluate", "is no key=value", "-S"),
        ("data.size.width=3", "data.size", "parameters"),
        ("evaluate.num_samples=[", "no YAML", "quote"),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting: str, problem: str, hint: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        resolve_params("training", settings=[setting])
    assert problem in caught.value.diagnosis
    assert hint in caught.value.hint


@pytest.mark.parametrize("content", ["- 1\n", "a: [\n", "evaluate: 3\n", "\x00"])
def test_a_bad_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(content)
    with pytest.raises(BadSettingError):
        resolve_params("training", params_file=file)


def test_a_missing_file_and_an_unknown_pipeline_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettingError, match=r"nowhere\.yaml"):
        resolve_params("training", params_file=tmp_path / "nowhere.yaml")
    with pytest.raises(BadSettingError, match="trainning"):
        resolve_params("trainning")
