"""The store of lineage: OpenLineage events as they were emitted, and the edges that they state."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, String, bindparam, insert, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from governance.lineage import Edge, Event, LineageGraph, event_edges, owning_run
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
    edges = event_edges(event)
    row = {
        "run_id": owning_run(event),
        "job": event["job"]["name"],
        "event_type": event.get("eventType", "OTHER"),
        "time": event["eventTime"],
        "event": json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
    }
    event_id = uow.connection.execute(insert(lineage_events).values(row)).inserted_primary_key[0]  # type: ignore[index]
    uow.note_event(event_id, row["event"])
    if not edges:
        return
    dialect_insert = postgresql_insert if uow.connection.dialect.name == "postgresql" else sqlite_insert
    rows = [{"source": edge.source, "target": edge.target, "event_id": event_id} for edge in edges]
    uow.connection.execute(dialect_insert(lineage_edges).on_conflict_do_nothing(), rows)


def upstream(connection: Connection, subject: str) -> LineageGraph:
    """Returns the graph of everything that a subject was made from, with the subject itself; one recursive query."""
    return _closure(connection, subject, towards="source", away_from="target")


def downstream(connection: Connection, subject: str) -> LineageGraph:
    """Returns the graph of everything made from a subject, with the subject itself; one recursive query."""
    return _closure(connection, subject, towards="target", away_from="source")


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
    """Returns stored events, in the order they were recorded.

    Args:
        connection: An open connection.
        run_ids: Only of these runs (and of their steps); all where None.
        step_jobs: Only of these jobs, such as ``training.train_dit``; all where None.
    """
    query = select(lineage_events.c.id, lineage_events.c.event)
    if step_jobs is not None:
        query = query.where(lineage_events.c.job.in_(sorted(step_jobs)))
    if run_ids is None:
        rows = [tuple(row) for row in connection.execute(query)]
    else:
        wanted = sorted(run_ids)
        batches = [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
        rows = [tuple(r) for batch in batches for r in connection.execute(query.where(lineage_events.c.run_id.in_(batch)))]
    return [json.loads(event) for _, event in sorted(rows)]
