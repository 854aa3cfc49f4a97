"""Many rows in one go, as each engine takes them fastest."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Insert, String, Table, Text, bindparam, func, insert, select
from sqlalchemy.dialects.postgresql import ARRAY


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows: on SQLite one after the other, on PostgreSQL by one statement that takes a column as an array.

    Args:
        connection: A connection in a transaction.
        table: The table.
        columns: Names of the columns that are given; the others take their defaults.
        rows: The values of these columns, a tuple a row.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        arrays = zip(columns, map(list, zip(*rows, strict=True)), strict=True)
        connection.execute(_from_arrays(table, tuple(columns)), dict(arrays))
    else:
        connection.exec_driver_sql(_row_by_row(table, tuple(columns)), list(rows))


@lru_cache
def _row_by_row(table: Table, columns: tuple[str, ...]) -> str:
    """Returns a statement for SQLite's driver, which takes tuples as they are and values that need no conversion."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608  # names


@lru_cache
def _from_arrays(table: Table, columns: tuple[str, ...]) -> Insert:
    """Returns a statement whose parameters are arrays named as the columns.

    Texts are passed without a length: PostgreSQL would cut what is cast to a length, and refuses to store what is too long.
    """
    types = (Text() if isinstance(table.c[name].type, String) else table.c[name].type for name in columns)
    arrays = (bindparam(name, type_=ARRAY(kind)) for name, kind in zip(columns, types, strict=True))
    return insert(table).from_select(columns, select(func.unnest(*arrays).table_valued(*columns).render_derived()))
