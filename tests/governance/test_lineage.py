import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.errors import BadRecordError
from governance.lineage import (
    ArtifactRef,
    Assertion,
    Edge,
    Event,
    LineageGraph,
    StepIdentity,
    event_edges,
    owning_run,
    run_event,
    step_subject,
)
from tests.openlineage_schemas import Schemas

RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
STEP = StepIdentity(run_id=RUN, pipeline="training", step="train_dit")
DATA = ArtifactRef(
    kind="dataset",
    digest="a" * 64,
    location="data",
    licences=["CC-BY-SA-4.0"],
    attribution="OpenMoji",
    owners=["team:data"],
    assertions=[Assertion(assertion="unique", success=True, column="sha256"), Assertion(assertion="rows", success=False)],
)
MODEL = ArtifactRef(kind="model", digest="b" * 64, assertions=[Assertion(assertion="finite", success=True)])
FULL = {
    "time": "2026-11-22T20:43:57.000000Z",
    "inputs": [DATA],
    "config": {"learning_rate": 0.001},
    "environment": {"lock_digest": "c" * 64, "python": "3.11"},
    "code_digest": "d" * 64,
    "revision": f"{'e' * 40}-dirty",
    "engine": ("kfp.local", "2.17.0"),
}
EVENTS = [
    run_event("START", STEP, **FULL),
    run_event("COMPLETE", STEP, outputs=[MODEL], metrics={"loss": 0.3}, reused=True, **FULL),
    run_event("FAIL", STEP, error="disk full", **FULL),
    run_event("ABORT", StepIdentity(run_id=RUN, pipeline="training"), time=FULL["time"], error="interrupted"),
]
edges = st.lists(st.builds(Edge, st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=24)


def reachable(pairs: list[Edge], start: str) -> set[str]:
    """An independent oracle: the transitive closure by repeated joins."""
    closure = {(edge.source, edge.target) for edge in pairs}
    while new := {(a, d) for a, b in closure for c, d in closure if b == c} - closure:
        closure |= new
    return {target for source, target in closure if source == start}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["eventType"])
def test_events_and_their_standard_facets_hold_to_the_published_schemas(event: Event) -> None:
    Schemas().check_event(event)


def test_an_event_states_its_edges_and_its_run() -> None:
    event = EVENTS[1]
    step = f"step:{RUN}/train_dit"
    assert event_edges(event) == (Edge(DATA.subject, step), Edge(step, MODEL.subject))
    assert owning_run(event) == RUN
    assert event["run"]["runId"] == str(uuid.uuid5(uuid.UUID(RUN), "train_dit"))
    assert event["run"]["facets"]["parent"]["run"]["runId"] == RUN


def test_events_of_others_have_edges_too() -> None:
    event = {"run": {"runId": RUN}, "job": {"name": "load"}, "inputs": [{"namespace": "s3", "name": "bucket"}]}
    assert event_edges(event) == (Edge("s3:bucket", f"step:{RUN}/load"),)
    assert owning_run(event) == RUN


@pytest.mark.parametrize("event", [{}, {"run": {"runId": RUN}}, {"run": {"runId": RUN}, "job": {"name": "x"}, "inputs": [{}]}])
def test_a_nameless_event_is_refused(event) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadRecordError):
        event_edges(event)


def test_a_run_id_that_is_no_uuid_is_refused() -> None:
    with pytest.raises(BadRecordError, match="not a UUID"):
        run_event("START", StepIdentity(run_id="run-1", pipeline="training", step="x"), time="t")


@given(edges, st.sampled_from("abcdefgh"))
def test_reach_agrees_with_the_closure(pairs: list[Edge], start: str) -> None:
    graph = LineageGraph(pairs)
    assert graph.downstream(start) == reachable(pairs, start)
    assert graph.upstream(start) == reachable([Edge(edge.target, edge.source) for edge in pairs], start)


def test_a_graph_of_events_holds_all_their_subjects() -> None:
    graph = LineageGraph.from_events(EVENTS)
    assert graph.nodes == {DATA.subject, step_subject(EVENTS[0]), MODEL.subject}
