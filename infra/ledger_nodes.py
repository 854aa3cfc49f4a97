"""The complete subtrees of the ledger's tree, as rows."""

from collections.abc import Collection, Mapping
from functools import lru_cache

from sqlalchemy import Connection, TextClause, select, text

from governance.merkle import Coordinate
from infra.bulk_insert import insert_rows
from infra.tables import ledger_nodes

_MAX_COORDINATES = 100
"""In one query; more than any one proof takes."""

_KEY = ("level", "position")


class StoredNodes:
    """Reads complete subtrees from the database.

    Args:
        connection: A connection in a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, coordinates: Collection[Coordinate], /) -> Mapping[Coordinate, bytes]:
        """Returns the hashes at these coordinates; those that are not stored are left out."""
        wanted = sorted(set(coordinates))
        found: dict[Coordinate, bytes] = {}
        for start in range(0, len(wanted), _MAX_COORDINATES):
            chunk = wanted[start : start + _MAX_COORDINATES]
            values = {f"{name}_{i}": value for i, pair in enumerate(chunk) for name, value in zip(_KEY, pair, strict=True)}
            rows = self._connection.execute(_query(len(chunk)), values)
            found.update({(level, position): bytes(value) for level, position, value in rows})
        return found


class BlockNodes:
    """Reads the nodes below a block of entries at once, and keeps those above, for the proofs of many entries in a row.

    Args:
        connection: A connection in a transaction.
    """

    BLOCK_LEVEL = 10

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stored = StoredNodes(connection)
        self._block: dict[Coordinate, bytes] = {}
        self._above: dict[Coordinate, bytes] = {}

    def load(self, block: int) -> None:
        """Reads the nodes below a block, in place of those of the block before.

        Args:
            block: The block's number: its entries are ``[block << BLOCK_LEVEL, (block + 1) << BLOCK_LEVEL)``.
        """
        self._block.clear()
        columns = ledger_nodes.c
        for level in range(self.BLOCK_LEVEL):
            shift = self.BLOCK_LEVEL - level
            is_inside = (
                (columns.level == level) & (columns.position >= block << shift) & (columns.position < (block + 1) << shift)
            )
            rows = self._connection.execute(select(columns.position, columns.hash).where(is_inside))
            self._block.update({(level, position): bytes(value) for position, value in rows})

    def read(self, coordinates: Collection[Coordinate], /) -> Mapping[Coordinate, bytes]:
        """Returns the hashes at these coordinates; those that are not stored are left out."""
        found = {}
        missing = []
        for coordinate in coordinates:
            value = self._block.get(coordinate) or self._above.get(coordinate)
            if value is None:
                missing.append(coordinate)
            else:
                found[coordinate] = value
        if missing:
            read = self._stored.read(missing)
            self._above.update(read)
            found.update(read)
        return found


def insert_nodes(connection: Connection, nodes: Mapping[Coordinate, bytes]) -> None:
    """Writes complete subtrees."""
    rows = [(level, position, value) for (level, position), value in nodes.items()]
    insert_rows(connection, ledger_nodes, ("level", "position", "hash"), rows)


@lru_cache
def _query(num_coordinates: int) -> TextClause:
    """Returns a query for so many nodes, written once, since each proof asks one.

    Each coordinate becomes a search of its own in the primary key; a row-value IN would make SQLite scan the table.
    """
    matches = (f"(level = :level_{i} AND position = :position_{i})" for i in range(num_coordinates))
    return text(f"SELECT level, position, hash FROM {ledger_nodes.name} WHERE {' OR '.join(matches)}")  # noqa: S608  # names
