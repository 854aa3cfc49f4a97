"""What a database driver raises, in one line of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from governance import errors as governance
from infra.errors import BackendUnavailableError

_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT")
_MISSING = ("no such column: gs_", "no such table: gs_")
_UNAVAILABLE = {
    "SQLITE_FULL": ("has no room left on its disk", "free some space and try again"),
    "SQLITE_BUSY": ("is locked by another process", "wait for the other process to end and try again"),
    "SQLITE_LOCKED": ("is locked by another process", "wait for the other process to end and try again"),
    "SQLITE_CANTOPEN": ("cannot be opened", "check that the folder exists and can be written"),
    "SQLITE_READONLY": ("cannot be written", "check the permissions of the file and its folder"),
    "SQLITE_PERM": ("cannot be written", "check the permissions of the file and its folder"),
    "SQLITE_IOERR": ("cannot be read or written: the disk answers with an error", "check the disk and its free space"),
    "SQLITE_NOMEM": ("cannot be read: there is not enough memory", "free some memory and try again"),
    "SQLITE_TOOBIG": ("cannot take a value as large as this one", ""),
}


@contextmanager
def translated_errors(database: str) -> Iterator[None]:
    """Turns a driver's error about the database itself into ours; errors about a statement pass through.

    Args:
        database: The database as the error line names it.

    Raises:
        BackendUnavailableError: Full, locked, out of reach.
        governance.errors.IntegrityError: Damaged, or no database.
    """
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise
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


def _damaged(database: str, message: str) -> governance.IntegrityError:
    return governance.IntegrityError(f"database {database} is damaged or no database: {message}", hint="restore a backup")


def _translate(database: str, error: BaseException | None) -> Exception | None:
    name = getattr(error, "sqlite_errorname", None)
    message = " ".join(str(error).split())[:200]
    if isinstance(name, str):
        if name.startswith(_DAMAGED) or message.startswith(_MISSING):
            return _damaged(database, message)
        for prefix, (diagnosis, hint) in _UNAVAILABLE.items():
            if name.startswith(prefix):
                return BackendUnavailableError(f"database {database} {diagnosis}", hint=hint)
        return None
    if "Could not decode to UTF-8" in message:
        return governance.IntegrityError(f"database {database} holds text that is no text: {message}", hint="restore a backup")
    if type(error).__module__.startswith(("psycopg", "pg8000")) and type(error).__name__ in {
        "OperationalError",
        "InterfaceError",
    }:
        return BackendUnavailableError(f"database {database} does not answer: {message}", hint="check that the server runs")
    return None
