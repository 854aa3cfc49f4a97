"""Opens SQLAlchemy engines on the one database: what a URL may name, and how each engine's connections are set up."""

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from infra.errors import BackendUnavailableError, BadSettingError

_BEGIN = "groundswell_begin"
BEGIN_IMMEDIATE = {_BEGIN: "BEGIN IMMEDIATE"}
"""Execution options of a connection whose transactions take SQLite's write lock at once; of no account on PostgreSQL."""

_MIN_POSTGRES = 13
_CONNECT_TIMEOUT_S = 10
_IDLE_TIMEOUT_S = 300
_POSTGRES = "postgresql+psycopg"
_DRIVERS = {"postgres": _POSTGRES, "postgresql": _POSTGRES, _POSTGRES: _POSTGRES, "sqlite": "sqlite", "sqlite+pysqlite": "sqlite"}
# A host that is gone is noticed within a minute, also by who waits for its answer.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,
}


def parse_url(url: str) -> URL:
    """Returns the URL of a database that lasts, with the driver that is installed for it.

    Args:
        url: ``sqlite:////path/to/file`` or ``postgresql://user:password@host/database``; ``postgres://`` and
            ``postgresql+psycopg://`` mean the same as the latter.

    Raises:
        BadSettingError: It is neither, or a database in memory.
    """
    hint = "write sqlite:////path/to/groundswell.db or postgresql://user:password@host/database"
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError, KeyError, ValueError):
        raise BadSettingError("the database URL cannot be used", hint=hint) from None  # the cause may quote a password
    if parsed.drivername == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise BadSettingError("a database in memory keeps no record", hint="name a file: sqlite:////path/to/groundswell.db")
    if parsed.drivername == _POSTGRES:
        if not parsed.database:
            raise BadSettingError("the database URL names no database", hint=hint)
        if "@" in (parsed.host or "") or set("@/") & set(parsed.database):  # else errors would show half of a password as a name
            raise BadSettingError("the database URL cannot be read", hint="write @ / : % in a password as %40 %2F %3A %25")
    return parsed


def shown_name(url: URL) -> str:
    """Returns a database as errors name it: the file's path, or the URL without user, password and options."""
    if url.drivername == "sqlite":
        return str(url.database)
    return URL.create("postgresql", host=url.host, port=url.port, database=url.database).render_as_string()


def make_engine(url: URL, *, busy_timeout_s: float) -> Engine:
    """Returns an engine whose transactions begin as `BEGIN_IMMEDIATE` says.

    Args:
        url: See `parse_url`.
        busy_timeout_s: How long a statement waits for another's lock.

    Raises:
        BadSettingError: No driver is installed.
    """
    try:
        return _sqlite_engine(url, busy_timeout_s) if url.drivername == "sqlite" else _postgres_engine(url, busy_timeout_s)
    except ImportError as error:
        raise BadSettingError(f"no driver for {url.drivername} is installed", hint="pip install 'psycopg[binary]'") from error


def _postgres_engine(url: URL, busy_timeout_s: float) -> Engine:
    timeouts = {"lock_timeout": busy_timeout_s, "idle_in_transaction_session_timeout": _IDLE_TIMEOUT_S}
    options = [f"-c {name}={max(1, round(seconds * 1000))}" for name, seconds in timeouts.items()]
    given = url.query.get("options", "")
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "fallback_application_name": "groundswell",
        "client_encoding": "utf8",
        **_KEEPALIVES,
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    arguments["options"] = " ".join([*options, *([given] if isinstance(given, str) else given)]).strip()
    # Units of work wait for each other's row lock and read what the other left; a stricter level would refuse instead.
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, isolation_level="READ COMMITTED")

    @event.listens_for(engine, "connect")
    def check(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        info = connection.info
        check_server(shown_name(url), info.server_version, info.parameter_status("server_encoding"))

    return engine


def check_server(name: str, version: int, encoding: str) -> None:
    """Checks that a PostgreSQL server is one that groundswell works with.

    Args:
        name: The database as errors name it.
        version: The server's version as libpq gives it, such as 150018 for 15.18.
        encoding: The database's encoding.

    Raises:
        BackendUnavailableError: It is too old, or the database cannot hold every text.
    """
    if version // 10_000 < _MIN_POSTGRES:
        raise BackendUnavailableError(
            f"database {name} is on PostgreSQL {version // 10_000}, which is too old",
            hint=f"use PostgreSQL {_MIN_POSTGRES} or newer",
        )
    if encoding != "UTF8":
        raise BackendUnavailableError(
            f"database {name} keeps text as {encoding}, not as UTF8", hint="create it with ENCODING 'UTF8' TEMPLATE template0"
        )


def _sqlite_engine(url: URL, busy_timeout_s: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": busy_timeout_s})

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver emits no BEGIN of its own
        cursor = connection.cursor()
        _set_wal(cursor, Path(str(url.database)), deadline=time.monotonic() + busy_timeout_s)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


def _set_wal(cursor: Any, path: Path, *, deadline: float) -> None:
    """Switches to WAL; SQLite does not wait by itself for others who open the new file at the same time."""
    import sqlite3

    while True:
        try:
            mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
            if mode != "wal":
                mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in {"SQLITE_BUSY", "SQLITE_BUSY_RECOVERY"} or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise BackendUnavailableError(
                f"{path} cannot be kept in WAL mode (it is {mode})", hint="put the home on a local disk, not on a network share"
            )
        return
