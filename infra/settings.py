"""The settings of a home. This is the only module that reads the environment."""

import getpass
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import BadSettingError

_FILE_NAME = "settings.toml"
_KEYS = ("database_url", "mlflow_tracking_uri", "artifact_root")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where a home and its backends are.

    Attributes:
        home: The folder of the home, absolute.
        database_url: SQLAlchemy URL of the one database.
        mlflow_tracking_uri: MLflow's tracking and registry store; the same database unless a server stands before it.
        artifact_root: Where MLflow keeps artifacts: a folder, or a URL.
    """

    home: Path
    database_url: str
    mlflow_tracking_uri: str
    artifact_root: str

    @classmethod
    def load(cls, home: Path | None = None) -> "Settings":
        """Returns the settings: environment over the home's ``settings.toml`` over the embedded defaults.

        Args:
            home: The home's folder; otherwise ``GROUNDSWELL_HOME``, otherwise ``.groundswell`` in the working folder.

        Raises:
            BadSettingError: ``settings.toml`` cannot be parsed or has an unknown key, or the path cannot stand in a URL.
        """
        path = Path(home or os.environ.get("GROUNDSWELL_HOME") or ".groundswell").expanduser().absolute()
        if any(character in str(path) for character in "?#%"):
            raise BadSettingError(
                f"the home {path} has one of ? # % in its path", hint="such a path cannot stand in a database's URL"
            )
        stored = _read_file(path / _FILE_NAME)
        database_url = _first(
            os.environ.get("GROUNDSWELL_DATABASE_URL"), stored.get("database_url"), f"sqlite:///{path / 'groundswell.db'}"
        )
        return cls(
            home=path,
            database_url=database_url,
            mlflow_tracking_uri=_first(os.environ.get("GROUNDSWELL_MLFLOW_URI"), stored.get("mlflow_tracking_uri"), database_url),
            artifact_root=_first(
                os.environ.get("GROUNDSWELL_ARTIFACT_ROOT"), stored.get("artifact_root"), str(path / "mlartifacts")
            ),
        )


def child_environment() -> dict[str, str]:
    """Returns the environment for a process of a pipeline: this one's, with every library's telemetry switched off."""
    quiet = {
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "False",
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **quiet}


def user_name() -> str:
    """Returns the name of whoever runs this process, for the first identity of a home."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "admin"


def _first(*values: str | None) -> str:
    return next(value for value in values if value)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettingError(f"{path} cannot be read: {error}", hint="it is a TOML file; see docs/ARCHITECTURE.md") from error
    for key in stored:
        if key not in _KEYS:
            raise BadSettingError(f"{path}: unknown key {key!r}", hint=f"known keys: {', '.join(_KEYS)}")
    return stored
