"""The rows of every table of a database, as lines that either engine's database can be filled from."""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, MetaData, Table, Text, cast, column, func, inspect, select, table
from sqlalchemy import types as sql_types
from sqlalchemy.types import NullType, TypeEngine

from governance.errors import BadRecordError, IntegrityError
from infra.backup.format import MAX_LINE_BYTES, encode_value, is_version_table

_PAGE = 1000
# SQLite has none of these; SQLAlchemy's types stand in for them there. Of all others the driver's own values are taken.
_TYPED = (sql_types.Boolean, sql_types.Date, sql_types.DateTime, sql_types.Numeric)


def reflect_tables(connection: Connection) -> dict[str, Table]:
    """Returns the tables of a database by name, each after those that its rows refer to; those for schema versions left out."""
    metadata = MetaData()
    metadata.reflect(connection)
    return {table.name: table for table in metadata.sorted_tables if not is_version_table(table.name)}


def read_version(connection: Connection, version_table: str) -> str | None:
    """Returns the schema's revision that alembic keeps in a table, None where there is none."""
    if not inspect(connection).has_table(version_table):
        return None
    version = table(version_table, column("version_num"))
    return connection.execute(select(version.c.version_num)).scalar()


def exchange_type(column_type: TypeEngine[Any]) -> TypeEngine[Any]:
    """Returns the type with which a column is read and written, so that both engines give and take the same values."""
    is_exact = isinstance(column_type, _TYPED) and not isinstance(column_type, sql_types.Float)
    return column_type if is_exact else NullType()


def count_rows(connection: Connection, source: Table) -> int:
    """Returns the number of rows of a table."""
    return int(connection.execute(select(func.count()).select_from(source)).scalar_one())


def row_lines(connection: Connection, source: Table) -> Iterator[bytes]:
    """Yields the rows of a table, one line each, a page of the database at a time.

    Args:
        connection: A connection in a read-only snapshot.
        source: The table, reflected.

    Raises:
        IntegrityError: A row cannot be read.
        BadRecordError: A row is larger than a backup can hold, or holds what no table of groundswell's or MLflow's holds.
    """
    names = [each.name for each in source.columns]
    light = table(source.name, *(column(each.name, exchange_type(each.type)) for each in source.columns))
    # Exactly the stored text of a document, not what a parser makes of it.
    shown = [
        cast(light.c[each.name], Text) if isinstance(each.type, sql_types.JSON) else light.c[each.name] for each in source.columns
    ]
    query = select(*shown).order_by(*(light.c[each.name] for each in source.primary_key.columns))
    try:
        for row in connection.execute(query, execution_options={"yield_per": _PAGE}):
            values = {name: encode_value(value) for name, value in zip(names, row, strict=True)}
            line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
            if len(line) > MAX_LINE_BYTES:
                raise BadRecordError(f"a row of table {source.name} is too large to be backed up")
            yield line
    except ValueError as error:
        raise IntegrityError(f"table {source.name} holds a value that its column cannot hold: {error!s:.200}") from error
