from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert
from sqlalchemy.event import listen

from benchmarks.lineage_store import digest, run_id, write_store
from governance.lineage import ArtifactRef, Edge, LineageGraph, StepIdentity, run_event
from infra.database import Database
from infra.lineage import downstream, load_events, record_event, upstream
from infra.lineage_diff import diff_lineage
from infra.lineage_graph import read_graph
from infra.lineage_records import read_records
from infra.lineage_subjects import resolve_subject
from infra.model_versions import find_version
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


def test_no_question_of_lineage_scans_a_table(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_store(tmp_path / "groundswell.db", 100)
    with Database.open(f"sqlite:///{tmp_path / 'groundswell.db'}") as database:
        statements: list[tuple[str, Any]] = []
        listen(database.engine, "before_cursor_execute", lambda *args: statements.append((args[2], args[3])))
        media, package, run = f"media:{digest('media', 0, 0, 0)}", f"package:{digest('package', 0)}", run_id(0)
        with database.read() as connection:
            for subject, node in ((media, media), (package, package), (f"run:{run}", "")):
                graph, _ = read_graph(connection, subject, node)
                assert len(read_records(connection, graph).events) > 5
        for text in (media, "m/2", run, run[:9], package.partition(":")[2][:8], media.partition(":")[2][:8]):
            resolve_subject(database, text)
        versions = [find_version(database, f"m/{number}") for number in (1, 2)]
        diff_lineage(database, *versions, datasets=tmp_path)
        with database.engine.connect() as connection:
            plans = {
                (step[3], statement)
                for statement, parameters in list(statements)
                if statement.startswith(("SELECT", "WITH"))
                for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            }
    assert len(plans) > 20
    few = {"gs_identities", "gs_withdrawals", "gs_ledger_head", "registered_model_aliases", "gs_alembic_version"}
    scans = [(plan, statement) for plan, statement in plans if plan.startswith("SCAN gs_") and plan.split()[1] not in few]
    assert scans == []
