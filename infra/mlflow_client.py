"""Opens MLflow: its schema in the home's database, its client, its errors in one line of ours.

MLflow takes seconds to import, so this module imports it only inside its functions.
"""

import hashlib
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.errors import BackendUnavailableError
from infra.locking import lock

_BUSY_TIMEOUT_S = 60.0
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare_mlflow() -> None:
    """Sets what MLflow reads from the environment when it is imported: no telemetry, no pickles, nothing on standard output."""
    os.environ.update(_SETTINGS)


def initialise_mlflow(db_url: str, artifact_root: str) -> None:
    """Creates MLflow's tables in a database that lacks them; safe to call again, and from two processes at once.

    Args:
        db_url: The one database of the home.
        artifact_root: Where MLflow keeps artifacts by default.

    Raises:
        BackendUnavailableError: The database cannot be reached or written.
    """
    prepare_mlflow()
    with lock(_lock_path(db_url)), translated_mlflow_errors(db_url):
        path = _sqlite_path(db_url)
        if path is None:
            _make_schema(db_url, artifact_root)
        elif not _has_schema(path):
            _install_schema(path, artifact_root)


def connect(tracking_uri: str, artifact_root: str) -> Any:
    """Returns an MLflow client of a server or, after creating the tables where they are missing, of a database.

    Raises:
        BackendUnavailableError: The store cannot be reached.
    """
    prepare_mlflow()
    if urlsplit(tracking_uri).scheme not in {"http", "https"}:
        initialise_mlflow(tracking_uri, artifact_root)
    with translated_mlflow_errors(tracking_uri):
        import mlflow
        from mlflow.tracking import MlflowClient

        _silence()
        # The registry's store asks for logged models through a client without arguments.
        mlflow.set_tracking_uri(tracking_uri)
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def ensure_experiment(client: Any, name: str, artifact_root: str) -> str:
    """Returns an experiment's id, creating it if need be; another process may create it at the same moment."""
    from mlflow.exceptions import MlflowException

    for attempt in range(2):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name, artifact_location=f"{artifact_root.rstrip('/')}/{name}"))
        except MlflowException:
            if attempt:
                raise
    raise BackendUnavailableError(f"MLflow has no experiment {name} and cannot create it")


@contextmanager
def translated_mlflow_errors(tracking_uri: str) -> Iterator[None]:
    """Turns what MLflow, its database or its artifact store raise into `BackendUnavailableError`."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except BackendUnavailableError:
        raise
    except (SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        raise unavailable(tracking_uri, error) from error
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow.", "requests.", "urllib3.")):
            raise
        raise unavailable(tracking_uri, error) from error


def unavailable(tracking_uri: str, error: BaseException) -> BackendUnavailableError:
    """Returns the one-line error for whatever went wrong with MLflow."""
    text = " ".join(str(error).split()) or type(error).__name__
    return BackendUnavailableError(
        f"MLflow at {_without_password(tracking_uri)} does not work: {text[:300]}",
        hint="check the database or server and its free space; `groundswell doctor` tells more",
    )


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


def _make_schema(db_url: str, artifact_root: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _silence()
    SqlAlchemyStore(db_url, artifact_root).engine.dispose()


def _install_schema(path: Path, artifact_root: str) -> None:
    """Makes the schema in a database of its own and copies it over in one transaction.

    MLflow's migrations take seconds, hold the write lock in between, and are not atomic on SQLite: a process killed among them
    would leave a database that no later attempt can mend.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-schema-", dir=path.parent) as folder:
        template = Path(folder) / "schema.db"
        _make_schema(f"sqlite:///{template}", artifact_root)
        with closing(sqlite3.connect(template)) as source:
            statements = [line for line in source.iterdump() if line not in {"BEGIN TRANSACTION;", "COMMIT;"}]
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as target:
        target.execute("BEGIN IMMEDIATE")
        for statement in statements:
            target.execute(statement)
        target.execute("COMMIT")


def _has_schema(path: Path) -> bool:
    if not path.exists():
        return False
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection:
        return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is not None


def _sqlite_path(db_url: str) -> Path | None:
    return Path(db_url.removeprefix("sqlite:///")) if db_url.startswith("sqlite:///") else None


def _lock_path(db_url: str) -> Path:
    path = _sqlite_path(db_url)
    if path is not None:
        return path.with_name(f"{path.name}.mlflow-lock")
    return Path(tempfile.gettempdir()) / f"groundswell-mlflow-{hashlib.sha256(db_url.encode()).hexdigest()[:16]}.lock"


def _silence() -> None:
    # MLflow would log each failed statement with its traceback; the error that it raises says enough.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
