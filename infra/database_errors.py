"""What a database driver raises, in one line of ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from governance import errors as governance
from infra.errors import BackendUnavailableError

_Words = tuple[str, str]
"""What is wrong with the database, and what to do about it."""

_FULL = ("has no room left on its disk", "free some space and try again")
_LOCKED = ("is locked by another process", "wait for the other process to end and try again")
_READ_ONLY = ("cannot be written", "check the permissions of the file and its folder")
_ENDED = ("has ended the connection", "see that the server runs, then run the same command again")

_SQLITE_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT")
_SQLITE_MISSING = ("no such column: gs_", "no such table: gs_")
_SQLITE: dict[str, _Words] = {
    "SQLITE_FULL": _FULL,
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_CANTOPEN": ("cannot be opened", "check that the folder exists and can be written"),
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_PERM": _READ_ONLY,
    "SQLITE_IOERR": ("cannot be read or written: the disk answers with an error", "check the disk and its free space"),
    "SQLITE_NOMEM": ("cannot be read: there is not enough memory", "free some memory and try again"),
    "SQLITE_TOOBIG": ("cannot take a value as large as this one", ""),
}

# SQLSTATE codes or their classes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES_DAMAGED = ("XX001", "XX002", "42P01", "42703")
_POSTGRES_REFUSED = ("22001", "22003", "22021", "22P05")
_POSTGRES: dict[str, _Words] = {
    "53100": _FULL,
    "53200": ("has no memory left for this", "try again later, or give the server more memory"),
    "53300": ("takes no more connections", "end some of its clients, or raise max_connections"),
    "55P03": _LOCKED,
    "40P01": _LOCKED,
    "40001": _LOCKED,
    "25006": ("cannot be written: the server is a standby or read-only", "name the primary server in GROUNDSWELL_DATABASE_URL"),
    "25P03": ("has ended a transaction that was idle for too long", "run the same command again"),
    "57014": ("has cancelled a statement: {message}", "raise the role's statement_timeout if it is too short"),
    "57P": _ENDED,
    "08": _ENDED,
    "42501": ("refuses this to the role: {message}", "let the role own the database: ALTER DATABASE ... OWNER TO ..."),
    "58": ("cannot be read or written: the server's disk answers with an error", "see the server's log"),
    "XX000": ("has failed inside: {message}", "see the server's log"),
}
# A server that refuses a connection says why in words only.
_CONNECTING: tuple[tuple[str, _Words], ...] = (
    (r"too many clients|too many connections|connection slots are reserved", _POSTGRES["53300"]),
    (r"database .* does not exist", ("does not exist", "create it: createdb --owner ROLE --encoding UTF8 NAME")),
    (
        r"authentication failed|no password supplied|pg_hba\.conf|role .* does not exist|not permitted to log in",
        ("refuses the login", "check user and password in GROUNDSWELL_DATABASE_URL, and the server's pg_hba.conf"),
    ),
    (
        r"server closed the connection|terminating connection|connection is (lost|closed)|EOF detected|reset by peer",
        _ENDED,
    ),
    (r"SSL|TLS|certificate", ("cannot be reached by TLS", "check sslmode and sslrootcert (PGSSLMODE, PGSSLROOTCERT)")),
    (
        r"resolve host|translate host name|Name or service not known",
        ("is on a host that has no address", "check the host's name in GROUNDSWELL_DATABASE_URL"),
    ),
    (r"starting up|shutting down|recovery", ("is starting up or shutting down", "try again in a moment")),
    (
        r"refused|timeout expired|timed out|unreachable|No such file",
        ("does not answer", "check that the server runs, and host and port"),
    ),
)


@contextmanager
def translated_errors(database: str) -> Iterator[None]:
    """Turns a driver's error about the database itself into ours; errors about a statement pass through.

    Args:
        database: The database as the error line names it.

    Raises:
        BackendUnavailableError: Full, locked, out of reach.
        governance.errors.IntegrityError: Damaged, or no database.
        governance.errors.BadRecordError: PostgreSQL cannot hold a value.
    """
    try:
        yield
    except DBAPIError as error:
        translated = _translate(database, error.orig)
        if translated is None:
            raise
        raise translated from error
    except UnicodeDecodeError as error:
        # The driver's own, where SQLite quotes a damaged schema in its message.
        if not error.object.startswith(b"malformed database schema"):
            raise
        raise _damaged(database, "malformed database schema") from error


def unavailable_database(database: str, error: BaseException | None) -> BackendUnavailableError | None:
    """Returns our error for one that another library raised because of a database, if that was out of reach, locked or full.

    Args:
        database: The database as the error line names it.
        error: What was raised; its causes are looked at too.
    """
    while error is not None:
        if isinstance(error, DBAPIError) and isinstance(found := _translate(database, error.orig), BackendUnavailableError):
            return found
        error = error.__cause__
    return None


def _translate(database: str, error: BaseException | None) -> Exception | None:
    message = " ".join(str(error).split())[:200]
    if isinstance(name := getattr(error, "sqlite_errorname", None), str):
        return _sqlite_error(database, name, message)
    if "Could not decode to UTF-8" in message:
        return governance.IntegrityError(f"database {database} holds text that is no text: {message}", hint="restore a backup")
    if type(error).__module__.startswith("psycopg"):
        return _postgres_error(database, error, message)
    return None


def _sqlite_error(database: str, name: str, message: str) -> Exception | None:
    if name.startswith(_SQLITE_DAMAGED) or message.startswith(_SQLITE_MISSING):
        return _damaged(database, message)
    return next((_unavailable(database, words, message) for prefix, words in _SQLITE.items() if name.startswith(prefix)), None)


def _postgres_error(database: str, error: Any, message: str) -> Exception | None:
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is None:
        return _connection_error(database, message)
    message = error.diag.message_primary or message
    if sqlstate.startswith(_POSTGRES_DAMAGED) and (sqlstate.startswith("XX") or "gs_" in message):
        return _damaged(database, message)
    if sqlstate.startswith(_POSTGRES_REFUSED):
        return governance.BadRecordError(f"database {database} cannot hold a value: {message}")
    return next(
        (_unavailable(database, words, message) for prefix, words in _POSTGRES.items() if sqlstate.startswith(prefix)), None
    )


def _connection_error(database: str, message: str) -> Exception | None:
    """Returns the error for what libpq or psycopg says by itself, without a code of the server's."""
    for pattern, words in _CONNECTING:
        if re.search(pattern, message):
            return _unavailable(database, words, message)
    if "NUL" in message:
        return governance.BadRecordError(f"database {database} cannot hold a value: {message}")
    if re.match(r"connection|consuming input|sending|failed|invalid|bad value|could not", message):
        return BackendUnavailableError(f"database {database} cannot be reached: {message}", hint="check GROUNDSWELL_DATABASE_URL")
    return None


def _unavailable(database: str, words: _Words, message: str) -> BackendUnavailableError:
    return BackendUnavailableError(f"database {database} {words[0].replace('{message}', message)}", hint=words[1])


def _damaged(database: str, message: str) -> governance.IntegrityError:
    return governance.IntegrityError(f"database {database} is damaged or no database: {message}", hint="restore a backup")
