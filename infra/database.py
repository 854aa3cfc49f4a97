"""The one database of a home: SQLite (WAL) in a file, or PostgreSQL.

Every unit of work takes the write lock first (``BEGIN IMMEDIATE``; on PostgreSQL a row lock on the ledger's head), gives
its ledger entries their indices under that lock, and holds it to the commit. Rows and entries commit together or not at all.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from governance.errors import IntegrityError
from governance.ledger import SALT_BYTES, SYSTEM, LedgerEntry, commitment, format_time
from governance.merkle import extend, leaf_hash
from infra.database_errors import translated_errors
from infra.errors import BackendUnavailableError, BadSettingError
from infra.ledger_nodes import StoredNodes, insert_nodes
from infra.tables import commitments, ledger_entries, ledger_head, metadata

BUSY_TIMEOUT_S = 60.0
_BEGIN = "groundswell_begin"
_APPEND_ONLY = ("gs_ledger_entries", "gs_ledger_nodes", "gs_ledger_checkpoints")
_KEY_MATCHES = {
    "gs_ledger_entries": '"index" = NEW."index"',
    "gs_ledger_nodes": "level = NEW.level AND position = NEW.position",
    "gs_ledger_checkpoints": "size = NEW.size",
}

Clock = Callable[[], datetime]
TokenBytes = Callable[[int], bytes]


def utc_now() -> datetime:
    """Returns the time now, in UTC."""
    return datetime.now(UTC)


class UnitOfWork:
    """One write transaction: rows through `connection`, ledger entries through `append`, all or nothing.

    Attributes:
        connection: The SQLAlchemy connection that holds the write lock.
        time: When the unit of work began, as the ledger writes times; for the rows that its entries describe.
    """

    def __init__(self, connection: Connection, *, size: int, clock: Clock, token_bytes: TokenBytes) -> None:
        self.connection = connection
        self.time = format_time(clock())
        self._size = size
        self._clock = clock
        self._token_bytes = token_bytes
        self._pending: list[tuple[LedgerEntry, bytes]] = []

    @property
    def size(self) -> int:
        """Number of entries of the ledger, with those appended here."""
        return self._size + len(self._pending)

    def append(
        self, action: str, subject: str, details: Mapping[str, Any], *, actor: str = SYSTEM, run_id: str | None = None
    ) -> int:
        """Appends an entry to the ledger and returns its index; it is written when the unit of work commits.

        Args:
            action: What happened, such as ``run.started``.
            subject: What it happened to, such as ``run:<run_id>``.
            details: Facts without floats (see `governance.canonical.decimals`), names, prompts or free text (see `commit_to`).
            actor: The identity that acts.
            run_id: The run that it belongs to.

        Raises:
            BadRecordError: The entry breaks a rule of the ledger.
        """
        entry = LedgerEntry(
            index=self.size,
            time=format_time(self._clock()),
            actor=actor,
            action=action,
            subject=subject,
            details=details,
            run_id=run_id,
        )
        self._pending.append((entry, entry.to_bytes()))
        return entry.index

    def commit_to(self, value: str) -> str:
        """Keeps a text beside the ledger, where it can be erased, and returns its salted SHA-256 for the ledger.

        Raises:
            BadRecordError: The text has no UTF-8 form.
        """
        salt = self._token_bytes(SALT_BYTES)
        digest = commitment(value, salt)
        self.connection.execute(insert(commitments).values(commitment=digest, salt=salt.hex(), value=value))
        return digest

    def flush(self) -> None:
        """Writes the entries appended so far; done by the commit, and needed before only to read them back."""
        if not self._pending:
            return
        rows = [
            {"index": e.index, "entry": data, "action": e.action, "subject": e.subject, "run_id": e.run_id}
            for e, data in self._pending
        ]
        leaves = [leaf_hash(data) for _, data in self._pending]
        self.connection.execute(insert(ledger_entries), rows)
        insert_nodes(self.connection, extend(self._size, leaves, StoredNodes(self.connection)))
        self._size = self.size
        self._pending.clear()
        self.connection.execute(update(ledger_head).where(ledger_head.c.id == 1).values(size=self._size))


class Database:
    """The database of a home. Open it with `Database.open`; safe to share between threads."""

    def __init__(self, engine: Engine, *, clock: Clock, token_bytes: TokenBytes) -> None:
        self.engine = engine
        self._clock = clock
        self._token_bytes = token_bytes
        self._active = threading.local()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock = utc_now,
        token_bytes: TokenBytes = secrets.token_bytes,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> Self:
        """Opens a database and creates the tables that it lacks.

        Args:
            url: An SQLAlchemy URL, such as ``sqlite:////home/groundswell.db``.
            clock: Gives the time of entries.
            token_bytes: Gives the salts of commitments; must be unpredictable.
            busy_timeout_s: How long to wait for another writer.

        Raises:
            BadSettingError: The URL names no file and no known server.
            BackendUnavailableError: The database cannot be reached, written or locked.
            IntegrityError: The file is no database, or a damaged one.
        """
        database = cls(_create_engine(_parse_url(url), busy_timeout_s), clock=clock, token_bytes=token_bytes)
        try:
            with translated_errors(database.name):
                _create_tables(database.engine)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def name(self) -> str:
        """The database as errors name it: the file's path, or the URL without its password."""
        url = self.engine.url
        return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """Opens a write transaction, commits it at the end, rolls it back if anything is raised inside.

        Raises:
            RuntimeError: The same thread is in a unit of work already, which would wait for itself.
            BackendUnavailableError: The database is full, locked or gone.
            IntegrityError: The database is damaged, or the ledger's head disagrees with its entries.
        """
        if getattr(self._active, "inside", False):
            raise RuntimeError("a unit of work inside a unit of work")
        self._active.inside = True
        try:
            with (
                translated_errors(self.name),
                self.engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection,
                connection.begin(),
            ):
                uow = UnitOfWork(connection, size=_lock_head(connection), clock=self._clock, token_bytes=self._token_bytes)
                yield uow
                uow.flush()
        finally:
            self._active.inside = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Opens a read-only snapshot of the whole database.

        Raises:
            BackendUnavailableError: The database is locked or gone.
            IntegrityError: The database is damaged.
        """
        with translated_errors(self.name), self.engine.connect() as connection:
            on_sqlite = connection.dialect.name == "sqlite"
            with connection.begin():
                statement = "PRAGMA query_only = 1" if on_sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
                connection.exec_driver_sql(statement)
                try:
                    yield connection
                finally:
                    if on_sqlite:
                        connection.exec_driver_sql("PRAGMA query_only = 0")

    def close(self) -> None:
        """Closes every idle connection; the object can be used again."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise BadSettingError(
            "the database URL cannot be used", hint="write sqlite:////path/to/groundswell.db or postgresql+psycopg://..."
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise BadSettingError("a database in memory keeps no record", hint="name a file: sqlite:////path/to/groundswell.db")
    return parsed


def _create_engine(url: URL, busy_timeout_s: float) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": busy_timeout_s})
    except ImportError as error:
        raise BadSettingError(f"no driver for {url.drivername} is installed", hint="install one, such as psycopg") from error

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


def _create_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        if metadata.tables.keys() <= set(inspect(connection).get_table_names()):
            return
    with engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7310579)"))
        metadata.create_all(connection)
        if connection.dialect.name == "sqlite":
            _create_triggers(connection)
        if connection.execute(select(ledger_head.c.id)).first() is None:
            connection.execute(insert(ledger_head).values(id=1, size=0))


def _create_triggers(connection: Connection) -> None:
    """Refuses to change or delete what is append-only; INSERT OR REPLACE too, which fires no delete trigger."""
    for table in _APPEND_ONLY:
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for verb in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}"
            )
        exists = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {_KEY_MATCHES[table]})"  # noqa: S608  # constants
        connection.exec_driver_sql(f"CREATE TRIGGER IF NOT EXISTS {table}_no_replace BEFORE INSERT ON {table} {exists} {refuse}")


def _lock_head(connection: Connection) -> int:
    size = connection.execute(select(ledger_head.c.size).where(ledger_head.c.id == 1).with_for_update()).scalar_one_or_none()
    if not isinstance(size, int) or size < 0:
        raise IntegrityError("the ledger's head is missing or no number", hint="restore the database from a backup")
    return size
