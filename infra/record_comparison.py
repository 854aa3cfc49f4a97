"""How a row is compared with what the ledger says of it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from governance.canonical import canonical_digest, decimals
from governance.errors import BadRecordError, IntegrityError
from governance.ledger import LedgerEntry, parse_entry
from infra.tables import ledger_entries

Key = tuple[Any, ...]
_Item = TypeVar("_Item")
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Described:
    """A table whose rows the ledger describes.

    Attributes:
        table: The table.
        noun: What a row is, for a problem's line.
        columns: Columns that entries may describe.
    """

    table: Table
    noun: str
    columns: frozenset[str]

    def key(self, row: Mapping[str, Any]) -> Key:
        """Returns a row's primary key."""
        return tuple(row[column.name] for column in self.table.primary_key.columns)

    def name(self, key: Key) -> str:
        """Returns a row as problems name it."""
        return f"{self.noun} {'/'.join(map(str, key))}"

    def said(self, details: Mapping[str, Any]) -> dict[str, Any]:
        """Returns those details that are columns of the row, or digests of columns."""
        return {
            name: value for name, value in details.items() if name in self.columns or name.removesuffix("_digest") in self.columns
        }

    def differences(self, row: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[str]:
        """Yields where a row is not what was said of it."""
        for column, value in said.items():
            if not _says(row, column, value):
                stored = row.get(column, row.get(column.removesuffix("_digest")))
                yield f"{self.name(self.key(row))}: {column} is {shown(stored)}, the ledger says {shown(value)}"


def all_rows(connection: Connection, table: Table) -> Iterator[Mapping[str, Any]]:
    """Yields every row of a table by its primary key, a batch of them in memory at a time."""
    return rows(connection, select(table).order_by(*table.primary_key.columns))


def rows(connection: Connection, query: Select[Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the rows that a query finds, a batch of them in memory at a time."""
    result = connection.execute(query, execution_options={"yield_per": _BATCH})
    keys = list(result.keys())
    for row in result:
        yield dict(zip(keys, row, strict=True))


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yields items in lists of a size, the last of which may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def same(stored: Any, said: Any) -> bool:
    """Compares by value and type, floats as the decimal strings that stand for them in the ledger."""
    if type(stored) is type(said) is str:
        return bool(stored == said)
    stored_text, said_text = (json.dumps(v, sort_keys=True, default=repr) for v in (decimals(stored), said))
    return stored_text == said_text


def stored_entries(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[LedgerEntry]:
    """Yields the entries that meet conditions, in order, a batch of them in memory at a time; malformed ones are left out.

    Args:
        connection: A connection in a transaction.
        conditions: On the columns of the entries' table.
    """
    query = select(ledger_entries.c.entry).where(*conditions).order_by(ledger_entries.c.index)
    for (data,) in connection.execute(query, execution_options={"yield_per": _BATCH}):
        try:
            yield parse_entry(bytes(data))
        except (IntegrityError, TypeError):
            continue


def shown(value: Any) -> str:
    """Returns a value as a problem's line shows it."""
    text = str(value)
    return repr(text if len(text) <= 70 else f"{text[:67]}...")


def parsed(text: Any) -> Any:
    """Returns what JSON text says; None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _says(row: Mapping[str, Any], column: str, value: Any) -> bool:
    if column in row:
        return same(row[column], value) or (isinstance(value, dict | list) and same(parsed(row[column]), value))
    stored = row[column.removesuffix("_digest")]
    try:
        return isinstance(stored, str) and canonical_digest(parsed(stored), floats=True) == value
    except BadRecordError:
        return False
