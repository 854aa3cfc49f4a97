"""Where settings come from, and what wins."""

from pathlib import Path

import pytest

from infra.errors import BadSettingError
from infra.settings import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "DATABASE_URL", "MLFLOW_URI", "ARTIFACT_ROOT"):
        monkeypatch.delenv(f"GROUNDSWELL_{name}", raising=False)


def test_everything_lies_in_the_home_by_default(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/groundswell.db"
    assert settings.mlflow_tracking_uri == settings.database_url
    assert settings.artifact_root == str(tmp_path / "mlartifacts")


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text('database_url = "postgresql://db/file"\nartifact_root = "/srv/file"\n')
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", "postgresql://db/environment")
    settings = Settings.load(tmp_path)
    assert settings.database_url == "postgresql://db/environment"
    assert settings.mlflow_tracking_uri == "postgresql://db/environment"
    assert settings.artifact_root == "/srv/file"


def test_the_home_is_named_by_option_then_environment_then_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load().home == tmp_path / ".groundswell"
    monkeypatch.setenv("GROUNDSWELL_HOME", str(tmp_path / "b"))
    assert Settings.load().home == tmp_path / "b"
    assert Settings.load(tmp_path / "a").home == tmp_path / "a"


@pytest.mark.parametrize("content", ["databse_url = 'x'\n", "= 3\n", "\xff"])
def test_a_bad_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.toml").write_text(content, encoding="latin-1")
    with pytest.raises(BadSettingError, match=r"settings\.toml"):
        Settings.load(tmp_path)


def test_a_path_that_cannot_stand_in_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettingError, match="path"):
        Settings.load(tmp_path / "what?")
