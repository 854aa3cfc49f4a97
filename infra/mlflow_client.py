"""Opens MLflow: its schema in the home's database, its client, its errors in one line of ours.

MLflow takes seconds to import, so this module imports it only inside its functions.
"""

import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, column, inspect, select, table, text
from sqlalchemy.engine import URL

from governance.errors import GovernanceError
from infra.database_errors import translated_errors
from infra.engines import make_engine, parse_url, shown_name
from infra.errors import BackendUnavailableError, InfraError
from infra.locking import lock
from infra.mlflow_errors import REQUEST_BOUNDS, unavailable
from infra.promotion.guards import install_guards
from infra.settings import without_password

if TYPE_CHECKING:
    from infra.database import Database

_BUSY_TIMEOUT_S = 60.0
_SCHEMA_TIMEOUT_S = 600.0
_SCHEMA_LOCK = 7310580
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "PGCONNECT_TIMEOUT": "10",
}
_experiments = table("experiments", column("experiment_id"), column("name"), column("creation_time"))


def prepare_mlflow() -> None:
    """Sets what MLflow reads from the environment when it is imported: no telemetry, no pickles, nothing on standard output."""
    os.environ.update(_SETTINGS)
    for name, value in REQUEST_BOUNDS.items():
        os.environ.setdefault(name, value)


def is_server(tracking_uri: str) -> bool:
    """Returns whether a tracking URI names an MLflow server, which keeps its tables itself; otherwise it is a database."""
    return urlsplit(tracking_uri).scheme in {"http", "https"}


def initialise_mlflow(db_url: str, artifact_root: str) -> None:
    """Creates MLflow's tables in a database that lacks them; safe to call again, and from several processes and hosts at once.

    Args:
        db_url: The one database of the home.
        artifact_root: Where MLflow keeps artifacts by default.

    Raises:
        BackendUnavailableError: The database cannot be reached or written, or its tables are of another version of MLflow.
    """
    prepare_mlflow()
    url = parse_url(db_url)
    on_sqlite = url.drivername == "sqlite"
    with translated_mlflow_errors(db_url):
        if on_sqlite:
            _make_sqlite_schema(Path(str(url.database)), artifact_root)
        engine = make_engine(url, busy_timeout_s=_BUSY_TIMEOUT_S if on_sqlite else _SCHEMA_TIMEOUT_S)
        try:
            with translated_errors(shown_name(url)):
                if not on_sqlite:
                    _make_postgres_schema(engine, artifact_root)
                with engine.connect() as connection:
                    _check_revision(connection, shown_name(url))
        finally:
            engine.dispose()


def connect(tracking_uri: str, artifact_root: str, *, database: "Database | None" = None) -> Any:
    """Returns an MLflow client of a server or, after creating the tables where they are missing, of a database.

    Args:
        tracking_uri: A server's address, or the URL of the one database.
        artifact_root: Where MLflow keeps artifacts by default.
        database: The one database, to check that a server keeps its tables there.

    Raises:
        BackendUnavailableError: The store cannot be reached, or the server has another database.
    """
    prepare_mlflow()
    if not is_server(tracking_uri):
        tracking_uri = parse_url(tracking_uri).render_as_string(hide_password=False)
        initialise_mlflow(tracking_uri, artifact_root)
    if database is not None:
        install_guards(database)
    with translated_mlflow_errors(tracking_uri):
        import mlflow
        from mlflow.tracking import MlflowClient

        _silence()
        # The registry's store asks for logged models through a client without arguments.
        mlflow.set_tracking_uri(tracking_uri)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        if database is not None and is_server(tracking_uri):
            _check_database_behind(client, tracking_uri, database)
        return client


def other_database(tracking_uri: str, database: str) -> BackendUnavailableError:
    """Returns the error for a server whose tables are not in the one database.

    Args:
        tracking_uri: The server.
        database: The one database as errors name it.
    """
    return BackendUnavailableError(
        f"the MLflow server at {without_password(tracking_uri)} does not keep its tables in database {database}",
        hint="start it with --backend-store-uri of the same database: a version and its ledger entry must commit together",
    )


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
    except (InfraError, GovernanceError):
        raise
    except (SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        raise unavailable(tracking_uri, error) from error
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow.", "requests.", "urllib3.")):
            raise
        raise unavailable(tracking_uri, error) from error


def schema_head() -> str:
    """Returns the newest schema that the installed MLflow knows, read from its migrations without importing it.

    Raises:
        ImportError: MLflow is not installed.
    """
    heads = _schema_revisions() - _schema_revisions("down_")
    if len(heads) != 1:
        raise ImportError("MLflow is not installed, or not whole")
    return heads.pop()


def _schema_revisions(prefix: str = "") -> set[str]:
    spec = util.find_spec("mlflow")
    folder = Path((spec.submodule_search_locations or [""])[0] if spec else "") / "store" / "db_migrations" / "versions"
    pattern = re.compile(rf"^{prefix}revision\b[^=\n]*=\s*[\"'](\w+)", re.MULTILINE)
    return {match[1] for path in folder.glob("*.py") if (match := pattern.search(path.read_text(encoding="utf-8")))}


def _check_revision(connection: Connection, database: str) -> None:
    """Refuses tables of another MLflow: it would migrate older ones without asking, and fail on newer ones later."""
    found, head = _revision(connection), schema_head()
    if found == head:
        return
    known = found in _schema_revisions()
    raise BackendUnavailableError(
        f"MLflow's tables in database {database} are of {'an older' if known else 'another'} version "
        f"(schema {found}; MLflow {metadata.version('mlflow-skinny')} has {head})",
        hint="back up the database, then run `mlflow db upgrade` on it" if known else "install the MLflow that made them",
    )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _check_database_behind(client: Any, tracking_uri: str, database: "Database") -> None:
    """Checks that an experiment of the server's, known by the millisecond of its creation, is a row of the database."""
    from mlflow.entities import ViewType

    known = client.search_experiments(view_type=ViewType.ALL, max_results=1)
    with database.read() as connection:
        found = inspect(connection).has_table(_experiments.name)
        for experiment in known if found else ():
            columns = _experiments.c
            key = (columns.experiment_id == int(experiment.experiment_id)) & (columns.name == experiment.name)
            query = select(columns.name).where(key, columns.creation_time == experiment.creation_time)
            found = connection.execute(query).first() is not None
    if not found:
        raise other_database(tracking_uri, database.name)


def _make_postgres_schema(engine: Engine, artifact_root: str) -> None:
    """Makes the schema under a lock of the database's, since hosts share no file.

    MLflow makes its first tables, migrates them in one transaction and adds an experiment; whatever of this a killed process has
    left undone is done by the next one.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if _is_complete(connection):
            return
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _SCHEMA_LOCK})
        if not _is_complete(connection):
            _make_schema(engine.url, artifact_root)
        connection.invalidate()  # ends the lock, as the death of this process would


def _is_complete(connection: Connection) -> bool:
    return _revision(connection) is not None and connection.execute(select(_experiments.c.name).limit(1)).first() is not None


def _make_schema(url: URL, artifact_root: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _silence()
    SqlAlchemyStore(url.render_as_string(hide_password=False), artifact_root).engine.dispose()


def _make_sqlite_schema(path: Path, artifact_root: str) -> None:
    with lock(path.with_name(f"{path.name}.mlflow-lock")):
        if not _has_schema(path):
            _install_schema(path, artifact_root)


def _install_schema(path: Path, artifact_root: str) -> None:
    """Makes the schema in a database of its own and copies it over in one transaction.

    MLflow's migrations take seconds, hold the write lock in between, and are not atomic on SQLite: a process killed among them
    would leave a database that no later attempt can mend.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-schema-", dir=path.parent) as folder:
        template = Path(folder) / "schema.db"
        _make_schema(URL.create("sqlite", database=str(template)), artifact_root)
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


def _silence() -> None:
    # MLflow would log each failed statement with its traceback; the error that it raises says enough.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
