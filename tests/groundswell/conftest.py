"""The command line as a user calls it, in homes of their own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from groundswell.cli.main import main
from infra.home import Home
from infra.settings import Settings


@dataclass(frozen=True)
class Called:
    """What a call of the command line left."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it has to be."""
        return json.loads(self.stdout)


Cli = Callable[..., Called]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Calls the command line in this process, in an empty working folder."""
    for name in ("GROUNDSWELL_HOME", "GROUNDSWELL_DATABASE_URL", "GROUNDSWELL_MLFLOW_URI", "GROUNDSWELL_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    working_folder = tmp_path / "cwd"
    working_folder.mkdir()
    monkeypatch.chdir(working_folder)

    def call(*arguments: object) -> Called:
        capfd.readouterr()
        exit_code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Called(exit_code, captured.out, captured.err)

    return call


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new home."""
    return Home.open(Settings.load(tmp_path / "home"))
