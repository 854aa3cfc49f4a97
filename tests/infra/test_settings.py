"""Where settings come from, and what wins."""

from pathlib import Path

import pytest

from infra.errors import BadSettingError
from infra.settings import Settings, without_password


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


SECRET = "canary-Xy9"


def test_a_variable_may_name_a_file_with_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    monkeypatch.setenv("PGPASSWORD_FILE", str(tmp_path / "password"))
    assert Settings.load(tmp_path).backends["PGPASSWORD"] == SECRET
    monkeypatch.setenv("PGPASSWORD_FILE", str(tmp_path / "absent"))
    with pytest.raises(BadSettingError, match="PGPASSWORD_FILE"):
        Settings.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        f'[environment]\nAWS_SECRET_ACCESS_KEY = "{SECRET}"\n',
        f'database_url = "postgresql+psycopg://me:{SECRET}@db/gs"\n',
    ],
)
def test_a_file_with_a_secret_must_be_private(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(content)
    path.chmod(0o644)
    with pytest.raises(BadSettingError, match="can be read by others") as raised:
        Settings.load(tmp_path)
    assert SECRET not in raised.value.diagnosis
    path.chmod(0o600)
    assert SECRET not in Settings.load(tmp_path).redact(f"could not use {SECRET} here")


@pytest.mark.parametrize("content", ['[environment]\nLD_PRELOAD = "x.so"\n', "environment = 3\n", "artifact_root = 3\n"])
def test_only_what_backends_read_is_put_into_the_environment(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.toml").write_text(content)
    with pytest.raises(BadSettingError, match=r"settings\.toml"):
        Settings.load(tmp_path)


def test_secrets_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", f"postgresql+psycopg://me:{SECRET}%2F@db/gs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}-2")
    settings = Settings.load(tmp_path)
    assert SECRET not in repr(settings)
    assert settings.redact(f"{settings.database_url} and {SECRET}/") == "postgresql+psycopg://me:***@db/gs and ***"
    assert SECRET not in without_password(settings.database_url)
    assert settings.container_environment(images={})["AWS_SECRET_ACCESS_KEY"] == f"{SECRET}-2"


def test_credentials_have_no_place_in_the_artifact_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDSWELL_ARTIFACT_ROOT", f"s3://key:{SECRET}@bucket/x")
    with pytest.raises(BadSettingError, match="credentials") as raised:
        Settings.load(tmp_path)
    assert SECRET not in raised.value.diagnosis
