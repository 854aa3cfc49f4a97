from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from governance.lineage import ArtifactRef, Edge, LineageGraph, StepIdentity, run_event
from infra.database import Database
from infra.lineage import downstream, load_events, record_event, upstream
from infra.tables import lineage_edges, lineage_events

RUNS = ["0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11", "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b12"]
names = st.sampled_from("abcdefg")


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as database:
        yield database


def an_event(run_id: str, source: str, target: str):  # type: ignore[no-untyped-def]
    made = ArtifactRef(kind="model", digest=target * 64)
    used = ArtifactRef(kind="dataset", digest=source * 64)
    identity = StepIdentity(run_id=run_id, pipeline="training", step="train_dit")
    return run_event("COMPLETE", identity, time="2026-11-22T20:43:57Z", inputs=[used], outputs=[made])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.sets(st.tuples(names, names), max_size=16), start=names)
def test_queries_agree_with_the_graph_in_memory(db: Database, pairs: set[tuple[str, str]], start: str) -> None:
    edges = [Edge(a, b) for a, b in pairs]
    with db.unit_of_work() as uow:
        uow.connection.execute(delete(lineage_edges))
        uow.connection.execute(delete(lineage_events))
        event = {"run_id": "r", "job": "j", "event_type": "OTHER", "time": "t", "event": "{}"}
        uow.connection.execute(insert(lineage_events).values(id=1, **event))
        for edge in edges:
            uow.connection.execute(insert(lineage_edges).values(source=edge.source, target=edge.target, event_id=1))
    graph = LineageGraph(edges)
    with db.read() as connection:
        for query, reach in ((upstream, graph.upstream), (downstream, graph.downstream)):
            found = query(connection, start)
            assert found.nodes == reach(start) | {start}
            assert set(found.edges) <= set(edges)


def test_events_come_back_as_recorded_and_edges_are_stated_once(db: Database) -> None:
    events = [an_event(RUNS[0], "a", "b"), an_event(RUNS[1], "b", "c"), an_event(RUNS[0], "a", "b")]
    with db.unit_of_work() as uow:
        for event in events:
            record_event(uow, event)
    with db.read() as connection:
        assert load_events(connection) == events
        assert load_events(connection, run_ids=[RUNS[1]]) == [events[1]]
        assert load_events(connection, run_ids=[]) == []
        graph = downstream(connection, "dataset:" + "a" * 64)
    assert len(graph.edges) == 2


def test_events_of_a_unit_of_work_that_fails_are_not_kept(db: Database) -> None:
    with pytest.raises(RuntimeError, match="stop"), db.unit_of_work() as uow:  # noqa: PT012
        record_event(uow, an_event(RUNS[0], "a", "b"))
        raise RuntimeError("stop")
    with db.read() as connection:
        assert load_events(connection) == []
