"""The store of lineage: OpenLineage events as they were emitted, and the edges that they state."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Select, String, bindparam, column, insert, select, values
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from governance.imported_lineage import told_by
from governance.lineage import Edge, Event, LineageGraph
from infra.database import UnitOfWork
from infra.tables import lineage_edges, lineage_events

_BATCH = 500


def record_event(uow: UnitOfWork, event: Mapping[str, Any]) -> None:
    """Stores an event, and the edges that it states and no earlier event did; an entry of the unit of work will speak of it.

    Args:
        uow: The unit of work whose other rows the event describes.
        event: An OpenLineage RunEvent (see `governance.lineage.run_event`).

    Raises:
        BadRecordError: The event names no run, no job, or a dataset without a name.
    """
    record_events(uow, [event])


def record_events(uow: UnitOfWork, events: Sequence[Mapping[str, Any]], *, imported: str | None = None) -> None:
    """Stores events as `record_event` does one.

    Args:
        uow: The unit of work.
        events: OpenLineage RunEvents; imported ones were checked.
        imported: Where they are of another producer, the SHA-256 of the file that they were imported from.

    Raises:
        BadRecordError: An event names no run, no job, or a dataset without a name.
    """
    told = [told_by(event, imported=imported is not None) for event in events]
    if not told:
        return
    rows = [
        {
            "run_id": one.run_id,
            "job": one.job,
            "event_type": one.event_type,
            "time": one.time,
            "event": event_text(event),
            "imported": imported,
        }
        for event, one in zip(events, told, strict=True)
    ]
    statement = insert(lineage_events).returning(lineage_events.c.id, sort_by_parameter_order=True)
    event_ids = uow.connection.execute(statement, rows).scalars().all()
    for event_id, row in zip(event_ids, rows, strict=True):
        uow.note_event(event_id, str(row["event"]))
    edges = [
        {"source": edge.source, "target": edge.target, "event_id": event_id}
        for event_id, one in zip(event_ids, told, strict=True)
        for edge in one.edges
    ]
    if edges:
        dialect_insert = postgresql_insert if uow.connection.dialect.name == "postgresql" else sqlite_insert
        uow.connection.execute(dialect_insert(lineage_edges).on_conflict_do_nothing(), edges)


def event_text(event: Mapping[str, Any]) -> str:
    """Returns the text that is stored of an event."""
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def upstream(connection: Connection, subject: str) -> LineageGraph:
    """Returns the graph of everything that a subject was made from, with the subject itself; one recursive query."""
    return _closure(connection, subject, towards="source", away_from="target")


def downstream(connection: Connection, subject: str) -> LineageGraph:
    """Returns the graph of everything made from a subject, with the subject itself; one recursive query."""
    return _closure(connection, subject, towards="target", away_from="source")


def upstream_of_each(connection: Connection, subjects: Sequence[str]) -> list[LineageGraph]:
    """Returns the upstream graph of each of a few subjects; one recursive query finds all of them."""
    columns = lineage_edges.c
    starts = (
        values(column("place", Integer), column("subject", String), name="named").data(list(enumerate(subjects))).cte("starts")
    )
    reached = select(starts.c.place, starts.c.subject).cte("reached", recursive=True)
    reached = reached.union(select(reached.c.place, columns.source).join(reached, columns.target == reached.c.subject))
    query = select(reached.c.place, columns.source, columns.target).join(reached, columns.target == reached.c.subject)
    edges: list[list[Edge]] = [[] for _ in subjects]
    for place, source, target in connection.execute(query):
        edges[place].append(Edge(source, target))
    return [LineageGraph(found, nodes=[subject]) for found, subject in zip(edges, subjects, strict=True)]


def _closure(connection: Connection, subject: str, *, towards: str, away_from: str) -> LineageGraph:
    """Walks the edges; UNION, unlike UNION ALL, drops subjects already reached, so that a cycle ends."""
    columns = lineage_edges.c
    reached = select(bindparam("subject", subject, String).label("subject")).cte("reached", recursive=True)
    reached = reached.union(select(columns[towards]).join(reached, columns[away_from] == reached.c.subject))
    query = select(columns.source, columns.target).join(reached, columns[away_from] == reached.c.subject)
    return LineageGraph((Edge(row.source, row.target) for row in connection.execute(query)), nodes=[subject])


def load_events(
    connection: Connection, *, run_ids: Collection[str] | None = None, step_jobs: Collection[str] | None = None
) -> list[Event]:
    """Returns the events that groundswell emitted, in the order they were recorded.

    Args:
        connection: An open connection.
        run_ids: Only of these runs (and of their steps); all where None.
        step_jobs: Only of these jobs, such as ``training.train_dit``; all where None.
    """
    columns = lineage_events.c
    query = select(columns.id, columns.event).where(columns.imported.is_(None))
    if step_jobs is not None:
        query = query.where(columns.job.in_(sorted(step_jobs)))
    return [json.loads(event) for _, event in _of_runs(connection, query, run_ids)]


def load_imported(connection: Connection, run_ids: Collection[str]) -> list[tuple[Event, str]]:
    """Returns the imported events of runs with the SHA-256 of the file that each came in, in the order they were recorded."""
    columns = lineage_events.c
    query = select(columns.id, columns.event, columns.imported).where(columns.imported.is_not(None))
    return [(json.loads(event), imported) for _, event, imported in _of_runs(connection, query, run_ids)]


def _of_runs(connection: Connection, query: Select[Any], run_ids: Collection[str] | None) -> list[tuple[Any, ...]]:
    """Returns the rows of a query for events that are of some runs, or of all where None, by their ids."""
    if run_ids is None:
        return sorted(tuple(row) for row in connection.execute(query))
    wanted = sorted(run_ids)
    batches = [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
    run_id = lineage_events.c.run_id
    return sorted(tuple(row) for batch in batches for row in connection.execute(query.where(run_id.in_(batch))))
