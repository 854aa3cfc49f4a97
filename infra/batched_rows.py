"""Rows by many keys, read in batches."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Row, Table, select

_BATCH = 400


def rows_by(connection: Connection, table: Table, column: Column[Any], values: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Reads rows by key in batches, since databases bound the number of parameters."""
    wanted = sorted(values)
    for start in range(0, len(wanted), _BATCH):
        rows: list[Row[Any]] = list(connection.execute(select(table).where(column.in_(wanted[start : start + _BATCH]))))
        yield from (dict(row._mapping) for row in rows)  # noqa: SLF001 - SQLAlchemy's documented way to a mapping
