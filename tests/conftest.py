"""What tests of several rooms share."""

import shutil
from pathlib import Path

import pytest

from infra.home import Home
from infra.settings import Settings


@pytest.fixture(scope="session")
def home_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with MLflow's tables made; making them takes seconds, so tests copy it."""
    from infra.mlflow_client import initialise_mlflow

    folder = tmp_path_factory.mktemp("template") / "home"
    home = Home.open(Settings.load(folder))
    initialise_mlflow(home.settings.mlflow_tracking_uri, home.settings.artifact_root)
    home.database.close()
    return folder


@pytest.fixture
def home(home_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of the test's own, complete with MLflow's tables."""
    for name in ("GROUNDSWELL_HOME", "GROUNDSWELL_DATABASE_URL", "GROUNDSWELL_MLFLOW_URI", "GROUNDSWELL_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    shutil.copytree(home_template, folder)
    return Home.open(Settings.load(folder))
