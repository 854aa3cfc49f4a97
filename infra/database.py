"""The one database of a home: SQLite (WAL) in a file, or PostgreSQL.

Every unit of work takes the write lock first (``BEGIN IMMEDIATE``; on PostgreSQL a row lock on the ledger's head), gives
its ledger entries their indices under that lock, and holds it to the commit. Rows and entries commit together or not at all.
"""

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, insert, select, update

from governance.errors import BadRecordError, IntegrityError
from governance.ledger import SALT_BYTES, SYSTEM, LedgerEntry, commitment, format_time
from governance.merkle import extend, leaf_hash
from infra.bulk_insert import insert_rows
from infra.database_errors import translated_errors
from infra.engines import BEGIN_IMMEDIATE, make_engine, parse_url, shown_name
from infra.errors import BackendUnavailableError
from infra.ledger_nodes import StoredNodes, insert_nodes
from infra.schema import HEAD, create_schema, lock_schema, read_revision, upgrade_schema
from infra.tables import commitments, ledger_entries, ledger_head

BUSY_TIMEOUT_S = 60.0

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
        self._events: list[int] = []  # first and last id
        self._num_events = 0
        self._events_digest = hashlib.sha256()

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
            BadRecordError: The text has no UTF-8 form, or holds a NUL, which PostgreSQL cannot.
        """
        if "\0" in value:
            raise BadRecordError("a text holds a NUL character", hint="write it without")
        salt = self._token_bytes(SALT_BYTES)
        digest = commitment(value, salt)
        self.connection.execute(insert(commitments).values(commitment=digest, salt=salt.hex(), value=value))
        return digest

    def note_event(self, event_id: int, text: str) -> None:
        """Notes a lineage event that was stored, in the order of ids, for the entry that speaks of it."""
        self._events = [*self._events[:1], event_id]
        self._num_events += 1
        self._events_digest.update(f"{text}\n".encode())

    def lineage(self) -> dict[str, Any]:
        """Returns the detail ``lineage`` of an entry: which lineage events were stored since it was last asked for.

        Raises:
            ValueError: None was.
        """
        if not self._events:
            raise ValueError("no lineage event was stored")
        statement = {
            "first": self._events[0],
            "last": self._events[-1],
            "num_events": self._num_events,
            "sha256": self._events_digest.hexdigest(),
        }
        self._events, self._num_events, self._events_digest = [], 0, hashlib.sha256()
        return statement

    def flush(self) -> None:
        """Writes the entries appended so far; done by the commit, and needed before only to read them back.

        Lineage events of which no entry speaks yet get one.
        """
        if self._events:
            self.append("lineage.recorded", "lineage", {"lineage": self.lineage()})
        if not self._pending:
            return
        rows = [(e.index, data, e.action, e.subject, e.run_id) for e, data in self._pending]
        leaves = [leaf_hash(data) for _, data in self._pending]
        insert_rows(self.connection, ledger_entries, ("index", "entry", "action", "subject", "run_id"), rows)
        insert_nodes(self.connection, extend(self._size, leaves, StoredNodes(self.connection)))
        self._size = self.size
        self._pending.clear()
        self.connection.execute(update(ledger_head).where(ledger_head.c.id == 1).values(size=self._size))


class Database:
    """The database of a home. Open it with `Database.open`; safe to share between threads.

    Attributes:
        engine: SQLAlchemy's engine.
        on_failure: Called when the database has not taken a unit of work: it is full, locked, gone or damaged.
    """

    def __init__(self, engine: Engine, *, clock: Clock, token_bytes: TokenBytes) -> None:
        self.engine = engine
        self._clock = clock
        self._token_bytes = token_bytes
        self._active = threading.local()
        self.on_failure: Callable[[], None] | None = None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock = utc_now,
        token_bytes: TokenBytes = secrets.token_bytes,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> Self:
        """Opens a database; makes its tables where it has none, and brings an older schema up to date.

        Args:
            url: Such as ``sqlite:////home/groundswell.db`` or ``postgresql://user:password@host/database``.
            clock: Gives the time of entries.
            token_bytes: Gives the salts of commitments; must be unpredictable.
            busy_timeout_s: How long to wait for another writer.

        Raises:
            BadSettingError: The URL names no file and no known server.
            BackendUnavailableError: The database cannot be reached, written or locked, or is of a newer groundswell.
            IntegrityError: The file is no database, or a damaged one.
        """
        engine = make_engine(parse_url(url), busy_timeout_s=busy_timeout_s)
        database = cls(engine, clock=clock, token_bytes=token_bytes)
        try:
            with translated_errors(database.name):
                database._prepare_schema()
        except BaseException:
            database.close()
            raise
        return database

    @property
    def name(self) -> str:
        """The database as errors name it: the file's path, or the URL without user, password and options."""
        return shown_name(self.engine.url)

    def now(self) -> datetime:
        """Returns the time by the clock that dates entries."""
        return self._clock()

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
        raised_inside: Exception | None = None  # an error of ours that is none of this database
        try:
            with translated_errors(self.name), self._transaction() as connection:
                uow = self._lock_ledger(connection)
                try:
                    yield uow
                except (BackendUnavailableError, IntegrityError) as error:
                    raised_inside = error
                    raise
                uow.flush()
        except (BackendUnavailableError, IntegrityError) as error:
            if error is not raised_inside and self.on_failure is not None:
                self.on_failure()
            raise
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

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(**BEGIN_IMMEDIATE) as connection, connection.begin():
            yield connection

    def _lock_ledger(self, connection: Connection) -> UnitOfWork:
        return UnitOfWork(connection, size=_lock_head(connection), clock=self._clock, token_bytes=self._token_bytes)

    def _prepare_schema(self) -> None:
        """Makes the tables, or migrates them in one transaction with the ledger entry that says so."""
        with self.engine.connect() as connection:
            if read_revision(connection, self.name) == HEAD:
                return
        with self._transaction() as connection:
            lock_schema(connection)
            revision = read_revision(connection, self.name)
            if revision is None:
                create_schema(connection)
            elif revision != HEAD:
                uow = self._lock_ledger(connection)  # before any table is, as every unit of work does
                upgrade_schema(connection, self.name, revision)
                uow.append("schema.migrated", "schema", {"from": revision, "to": HEAD})
                uow.flush()

    def close(self) -> None:
        """Closes every idle connection; the object can be used again."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _lock_head(connection: Connection) -> int:
    size = connection.execute(select(ledger_head.c.size).where(ledger_head.c.id == 1).with_for_update()).scalar_one_or_none()
    if not isinstance(size, int) or size < 0:
        raise IntegrityError("the ledger's head is missing or no number", hint="restore the database from a backup")
    return size
