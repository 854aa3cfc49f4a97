"""Fills the tables of a database, of either engine, with the rows of a backup."""

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Table, column, delete, func, insert, select, table, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, StatementError

from governance.errors import BadRecordError
from infra.backup.archive import TarReader
from infra.backup.format import DATABASE, Header, Progress, decode_value, table_member
from infra.backup.rows import exchange_type, reflect_tables
from infra.backup.target import SEEDED
from infra.objects.store import is_remote, local_path
from infra.tables import ledger_head

_PAGE = 500
# Where absolute locations stand. A step's record has some too, but is what it was: the ledger has its digest.
_LOCATIONS = {
    "gs_artifacts": ("location",),
    "gs_model_versions": ("location",),
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


class Locations:
    """Where what a backup holds was, and where it will be.

    Args:
        header: The backup's header.
        home: The home's folder.
        artifact_root: Where MLflow will keep artifacts: a folder, or a URL.
    """

    def __init__(self, header: Header, *, home: str, artifact_root: str) -> None:
        self._home = (header.home, home)
        root = artifact_root if is_remote(artifact_root) else str(local_path(artifact_root))
        self._root = (header.artifact_root.rstrip("/"), root.rstrip("/"))
        pairs = dict([self._home])
        if header.has_artifacts:
            pairs[self._root[0]] = self._root[1]
        for digest, package in header.packages.items():
            for location in package.locations:
                pairs[location] = self.of_package(digest, location) if package.is_included else location
        for old, new in list(pairs.items()):
            if "://" not in old and not is_remote(old):
                pairs.setdefault(f"file://{quote(old)}", new if is_remote(new) else f"file://{quote(new)}")
        self._pairs = sorted(pairs.items(), key=lambda pair: len(pair[0]), reverse=True)

    def of_package(self, digest: str, location: str) -> str:
        """Returns where a package of the backup will be that was somewhere: in the same place below the new artifact root.

        Args:
            digest: Its root digest.
            location: Where it was.
        """
        for old, new in (self._root, self._home):
            if location.startswith(f"{old}/"):
                return f"{new}{location.removeprefix(old)}"
        return f"{self._root[1]}/restored/{digest}"

    def rewrite(self, location: str) -> str:
        """Returns where a thing will be that was somewhere; what is not in the backup stays where it is."""
        for old, new in self._pairs:
            if location == old or location.startswith(f"{old}/"):
                return f"{new}{location[len(old) :]}"
        return location


def load_rows(connection: Connection, reader: TarReader, header: Header, locations: Locations, progress: Progress) -> None:
    """Fills empty tables with the rows of a backup, each after those that it refers to.

    Args:
        connection: A connection in a transaction, to a database with the schemas that the header names.
        reader: The backup.
        header: Its header.
        locations: Where things will be.
        progress: Told how far it has come.

    Raises:
        BadRecordError: A row is none of its table's, or does not fit into it; or a table is missing.
        IntegrityError: The backup has changed since it was verified.
    """
    tables = reflect_tables(connection)
    _check_tables(reader, header, tables)
    for name in SEEDED.keys() & header.tables.keys():
        connection.execute(delete(tables[name]))
    done, total = 0, sum(header.tables.values())
    for name, target in tables.items():
        count = 0
        for rows in _pages(reader, name, target) if name in header.tables else ():
            for row in rows:
                for key in _LOCATIONS.get(name, ()):
                    row[key] = locations.rewrite(row[key]) if isinstance(row.get(key), str) else row.get(key)
            _insert(connection, target, rows)
            count += len(rows)
            progress(done + count, total, f"rows of {name}")
        if count != header.tables.get(name, 0):
            raise BadRecordError(f"the backup has {count:,} rows of table {name}, its header says {header.tables[name]:,}")
        done += count
    if connection.dialect.name == "postgresql":
        _set_sequences(connection, tables)
        for name in tables:  # the verification asks for pages of tables that the planner knows nothing of yet
            connection.exec_driver_sql(f"ANALYZE {connection.dialect.identifier_preparer.quote(name)}")


def _check_tables(reader: TarReader, header: Header, tables: Mapping[str, Table]) -> None:
    members = {PurePosixPath(name).stem for name in reader.names if name.startswith(f"{DATABASE}/")}
    if members != header.tables.keys() or not all(table_member(name) in reader for name in members):
        raise BadRecordError("the backup's tables are not those that its header names", hint="use another backup")
    for name, count in header.tables.items():
        if name not in tables and count:
            raise BadRecordError(
                f"the backup holds rows of table {name!r:.80}, which neither groundswell nor MLflow have here",
                hint="restore it with the versions that made it",
            )


def _pages(reader: TarReader, name: str, target: Table) -> Iterator[list[dict[str, Any]]]:
    columns = {each.name for each in target.columns}
    page: list[dict[str, Any]] = []
    for number, line in enumerate(reader.lines(table_member(name)), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadRecordError(f"row {number} of table {name} in the backup is no JSON") from error
        if not isinstance(row, dict) or row.keys() != columns:
            raise BadRecordError(f"row {number} of table {name} in the backup does not have the table's columns")
        page.append({key: decode_value(value) for key, value in row.items()})
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


def _insert(connection: Connection, target: Table, rows: list[dict[str, Any]]) -> None:
    light = table(target.name, *(column(each.name, exchange_type(each.type)) for each in target.columns))
    try:
        if target.name == ledger_head.name:  # its row is there, and locked by this transaction
            connection.execute(update(light).where(light.c.id == 1).values(**rows[-1]))
        else:
            connection.execute(insert(light), rows)
    except (DataError, IntegrityError, ProgrammingError, OverflowError, UnicodeError) as error:
        raise _unfit(target, error) from error
    except DBAPIError:
        raise
    except StatementError as error:
        raise _unfit(target, error) from error


def _unfit(target: Table, error: Exception) -> BadRecordError:
    reason = str(getattr(error, "orig", None) or error).split("\n")[0]  # further lines quote the row
    return BadRecordError(f"a row of table {target.name} in the backup does not fit into the database: {reason:.200}")


def _set_sequences(connection: Connection, tables: Mapping[str, Table]) -> None:
    """Sets the counters behind columns that number rows to the largest number that was restored."""
    for target in tables.values():
        for each in target.primary_key.columns:
            owned = select(func.pg_get_serial_sequence(f'"{target.name}"', each.name))
            sequence = connection.execute(owned).scalar()
            largest = connection.execute(select(func.max(each))).scalar() if sequence else None
            if largest:
                connection.execute(select(func.setval(sequence, largest)))
