"""Whether the lineage that is stored is the one that was recorded.

Each unit of work says in an entry's detail ``lineage`` which events it stored: the first and last id, their number, and the
SHA-256 over their texts, a line each. Of other producers' events the entry of an import says so, and each of their rows names the
file. The edges must be those that the events state, each with the first event that states it.
Homes of earlier releases hold events that no entry speaks of; those are taken as they are where they are older than the first
statement.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, TextClause, func, select, text, true

from governance.errors import BadRecordError
from governance.imported_lineage import ACTION, import_subject, told_by
from governance.ledger import LedgerEntry
from governance.lineage import Edge
from infra.record_comparison import batches, parsed, rows, shown
from infra.tables import lineage_edges, lineage_events

_BATCH = 200
_NO_EVENT = (BadRecordError, KeyError, TypeError, AttributeError, ValueError, OverflowError)
_KEYS = {"first", "last", "num_events", "sha256"}


@dataclass
class _Statement:
    """What an entry says of the events of its unit of work, and what of them was found."""

    first: int
    last: int
    num_events: int
    sha256: str
    imported: str | None

    def __post_init__(self) -> None:
        self._num_found = 0
        self._digest = hashlib.sha256()

    def add(self, text: str) -> None:
        self._num_found += 1
        self._digest.update(f"{text}\n".encode())

    @property
    def holds(self) -> bool:
        return self._num_found == self.num_events and self._digest.hexdigest() == self.sha256


class LineageChecker:
    """Compares the stored lineage with what entries say of it.

    Args:
        connection: A connection in the transaction that is verified.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._statements: deque[_Statement] = deque()
        self._current: _Statement | None = None
        self._last_id: int | None = None
        self._has_older_events = False
        self._num_edges = 0

    def note(self, entry: LedgerEntry) -> None:
        """Takes in an entry."""
        said = entry.details.get("lineage")
        if isinstance(said, dict) and said.keys() == _KEYS and all(isinstance(said[key], int) for key in _KEYS - {"sha256"}):
            imported = entry.subject.removeprefix(import_subject("")) if entry.action == ACTION else None
            self._statements.append(_Statement(**said, imported=imported))
        elif not self._statements and self._current is None and entry.action.startswith(("step.", "asset.")):
            self._has_older_events = True

    def flush(self) -> Iterator[str]:
        """Compares the events that the entries taken in speak of, so that memory stays bounded; yields what is wrong."""
        if self._statements:
            yield from self._compare(lineage_events.c.id <= self._statements[-1].last)

    def problems(self) -> Iterator[str]:
        """Yields what does not hold; to be asked at the end."""
        yield from self._compare(true())
        for statement in (self._current, *self._statements):
            yield from _closed(statement)
        yield from self._unstated_edges()

    def _compare(self, until: ColumnElement[bool]) -> Iterator[str]:
        """Compares the events that were not compared yet, up to a bound."""
        columns = lineage_events.c
        query = select(lineage_events).where(until).order_by(columns.id)
        if self._last_id is not None:
            query = query.where(columns.id > self._last_id)
        for batch in batches(rows(self._connection, query), _BATCH):
            for row in batch:
                while self._statements and row["id"] >= self._statements[0].first:
                    yield from _closed(self._current)
                    self._current = self._statements.popleft()
                if self._current is not None and row["id"] <= self._current.last:
                    self._current.add(str(row["event"]))
                    yield from _origin_differences(row, self._current.imported)
                elif self._current is not None or not self._has_older_events or row["imported"] is not None:
                    yield f"lineage event {row['id']} has a row but no entry"
            self._last_id = batch[-1]["id"]
            yield from self._check_batch(batch)

    def _check_batch(self, batch: list[Mapping[str, Any]]) -> Iterator[str]:
        """Compares a batch of events with their columns and edges."""
        stated: dict[Edge, int] = {}
        for row in batch:
            try:
                told = told_by(parsed(row["event"]), imported=row["imported"] is not None)
            except _NO_EVENT:
                yield f"lineage event {row['id']} is no OpenLineage event"
                continue
            for name in ("run_id", "job", "time", "event_type"):
                if row[name] != (value := getattr(told, name)):
                    yield f"lineage event {row['id']}: {name} of the row is {shown(row[name])}, the event says {shown(value)}"
            for edge in told.edges:
                stated.setdefault(edge, row["id"])
        yield from self._check_edges(stated)

    def _check_edges(self, stated: dict[Edge, int]) -> Iterator[str]:
        found = self._stored(stated)
        for edge, event_id in stated.items():
            name = f"lineage edge from {edge.source:.80} to {edge.target:.80}"
            if edge not in found:
                yield f"{name} is missing, event {event_id} states it"
            elif found[edge] > event_id:
                yield f"{name} is said to be of event {found[edge]}, event {event_id} states it before"
            elif found[edge] == event_id:
                self._num_edges += 1

    def _stored(self, edges: dict[Edge, int]) -> dict[Edge, int]:
        """Returns the events that the stored ones of some edges are said to be of."""
        found: dict[Edge, int] = {}
        for batch in batches(edges, _BATCH):
            wanted = {f"source_{i}": edge.source for i, edge in enumerate(batch)}
            wanted |= {f"target_{i}": edge.target for i, edge in enumerate(batch)}
            stored = self._connection.execute(_edges_query(len(batch)), wanted)
            found.update({Edge(source, target): event_id for source, target, event_id in stored})
        return found

    def _unstated_edges(self) -> Iterator[str]:
        """Yields the edges that their event does not state."""
        count = select(func.count()).select_from(lineage_edges)
        if self._connection.execute(count).scalar_one() == self._num_edges:
            return
        query = select(lineage_edges, lineage_events.c.event, lineage_events.c.imported).outerjoin(
            lineage_events, lineage_edges.c.event_id == lineage_events.c.id
        )
        for row in rows(self._connection, query):
            try:
                told = told_by(parsed(row["event"]), imported=row["imported"] is not None)
                is_stated = Edge(row["source"], row["target"]) in told.edges
            except _NO_EVENT:
                is_stated = False
            if not is_stated:
                name = f"lineage edge from {row['source']:.80} to {row['target']:.80}"
                yield f"{name} has a row, and event {row['event_id']} does not state it"


def _origin_differences(row: Mapping[str, Any], imported: str | None) -> Iterator[str]:
    if row["imported"] != imported:
        said = "emitted here" if imported is None else f"imported from the file {imported:.12}"
        yield f"lineage event {row['id']}: the ledger says that it was {said}, the row says otherwise"


@lru_cache(maxsize=_BATCH)
def _edges_query(num_edges: int) -> TextClause:
    """Returns a query for so many edges, written once: SQLAlchemy would take longer to write it than the database to answer."""
    wanted = ", ".join(f"(:source_{i}, :target_{i})" for i in range(num_edges))
    return text(
        f"WITH wanted (source, target) AS (VALUES {wanted}) SELECT stored.source, stored.target, stored.event_id "  # noqa: S608
        f"FROM {lineage_edges.name} AS stored JOIN wanted ON stored.source = wanted.source AND stored.target = wanted.target"
    )


def _closed(statement: _Statement | None) -> Iterator[str]:
    if statement is not None and not statement.holds:
        yield f"the lineage events {statement.first} to {statement.last} are not those that the ledger speaks of"
