import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from governance.errors import BadRecordError
from governance.imported_lineage import as_imported, told_by
from governance.lineage import ArtifactRef, Edge, StepIdentity, run_event
from governance.openlineage import MAX_DEPTH, check_event
from tests.foreign_events import dataset, foreign_event

SCHEMA = Path(__file__).parents[3] / "shared" / "schemas" / "openlineage" / "OpenLineage.json"
RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
FACET = {"_producer": "https://producer.example/1", "_schemaURL": "https://producer.example/facet.json"}
PARENT = {**FACET, "run": {"runId": RUN}, "job": {"namespace": "airflow", "name": "dag"}}
STEP = StepIdentity(run_id=RUN, pipeline="training", step="train_dit")
OWN = run_event("COMPLETE", STEP, time="2026-11-22T20:43:57Z", outputs=[ArtifactRef(kind="model", digest="b" * 64)])

SOUND = {
    "least": {key: value for key, value in foreign_event().items() if key not in {"inputs", "outputs", "eventType"}},
    "datasets": foreign_event(inputs=[dataset("a")], outputs=[{**dataset("b"), "outputFacets": {"x": FACET}}]),
    "parent": foreign_event(run={"runId": RUN.upper(), "facets": {"parent": PARENT, "anything": FACET}}),
    "urn": foreign_event(producer="urn:someone:1"),
    "more": foreign_event(more={"what": ["ever"]}),
    "ours": OWN,
}
UNSOUND = {
    "no object": [1],
    "null": None,
    "no job": {key: value for key, value in foreign_event().items() if key != "job"},
    "no time": {key: value for key, value in foreign_event().items() if key != "eventTime"},
    "no producer": {key: value for key, value in foreign_event().items() if key != "producer"},
    "time without a zone": foreign_event(eventTime="2026-11-20T08:15:30"),
    "time of another kind": foreign_event(eventTime=1764000000),
    "day that is none": foreign_event(eventTime="2026-02-30T08:15:30Z"),
    "state": foreign_event(eventType="FINISHED"),
    "producer": foreign_event(producer="spark"),
    "run id": foreign_event(run={"runId": "run-1"}),
    "number as name": foreign_event(job={"namespace": "n", "name": 5}),
    "list of one": foreign_event(job=[{"namespace": "n", "name": "x"}]),
    "datasets as object": foreign_event() | {"inputs": {}},
    "dataset without name": foreign_event(inputs=[{"namespace": "s3://lake"}]),
    "facet without producer": foreign_event(run={"runId": RUN, "facets": {"x": {"_schemaURL": "https://x.example"}}}),
    "facet as list": foreign_event(run={"runId": RUN, "facets": {"x": []}}),
    "facets null": foreign_event(run={"runId": RUN, "facets": None}),
}


@pytest.fixture(scope="module")
def is_published():  # type: ignore[no-untyped-def]
    if not SCHEMA.is_file():
        pytest.skip("the published OpenLineage schemas are not beside the project")
    from jsonschema import Draft202012Validator, FormatChecker

    return Draft202012Validator(json.loads(SCHEMA.read_text()), format_checker=FormatChecker()).is_valid


@pytest.mark.parametrize("name", SOUND)
def test_what_the_published_schema_has_is_taken(is_published, name: str) -> None:  # type: ignore[no-untyped-def]
    assert is_published(SOUND[name])
    assert check_event(SOUND[name]) is SOUND[name]


@pytest.mark.parametrize("name", UNSOUND)
def test_what_the_published_schema_refuses_is_refused_in_one_line(is_published, name: str) -> None:  # type: ignore[no-untyped-def]
    needs_formats = {"time without a zone", "day that is none", "producer"}  # which jsonschema checks with more libraries only
    assert name in needs_formats or not is_published(UNSOUND[name])
    with pytest.raises(BadRecordError) as refused:
        check_event(copy.deepcopy(UNSOUND[name]))
    assert len(refused.value.diagnosis.splitlines()) == 1
    assert len(refused.value.diagnosis) < 300


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (foreign_event(x=nested(MAX_DEPTH)), "nested more than"),
        (foreign_event(x=nested(100_000)), "nested more than"),
        (foreign_event(x=math.nan), "not finite"),
        (foreign_event(x=math.inf), "not finite"),
        (foreign_event(x="\ud800"), "half of a character"),
        (foreign_event(job={"namespace": "n", "name": "a\0b"}), "NUL"),
        (foreign_event(job={"namespace": "n", "name": "x" * 256}), "255 characters"),
        (foreign_event(inputs=[dataset("x" * 600)]), "512 characters"),
        ({key: value for key, value in foreign_event().items() if key != "run"}, "of no run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_refused(event: Any, problem: str) -> None:
    with pytest.raises(BadRecordError, match=problem):
        check_event(event)


def test_an_imported_event_names_its_run_and_datasets_apart_from_ours() -> None:
    event = foreign_event(
        inputs=[dataset("a#b", "s3://x#y"), dataset(f"dataset:{'a' * 64}", "groundswell"), dataset("a" * 64, "dataset")],
        outputs=[dataset("train_dit", "groundswell"), dataset(f"step:{'a' * 64}", "groundswell")],
    )
    told = told_by(event, imported=True)
    step = f"step:{event['run']['runId']}/spark://cluster#crop_pictures"
    assert told.step == step
    assert told.edges == (
        Edge("external:s3://x%23y#a#b", step),
        Edge(f"dataset:{'a' * 64}", step),
        Edge(f"external:dataset#{'a' * 64}", step),
        Edge(step, "external:groundswell#train_dit"),
        Edge(step, f"external:groundswell#step:{'a' * 64}"),
    )
    assert (told.run_id, told.job, told.time) == (event["run"]["runId"], "crop_pictures", "2026-11-20T07:15:30.123456Z")


def test_an_imported_event_is_of_our_step_only_where_all_its_names_are() -> None:
    assert told_by(OWN, imported=True).step == STEP.subject
    told = [
        {**OWN, "job": {**OWN["job"], "namespace": "spark"}},
        {**OWN, "job": {**OWN["job"], "name": "training.evaluate"}},
        {**OWN, "run": {**OWN["run"], "runId": RUN}},
        {**OWN, "run": {"runId": OWN["run"]["runId"], "facets": {"groundswell_step": OWN["run"]["facets"]["groundswell_step"]}}},
        foreign_event(run={"runId": RUN}, job={"namespace": "groundswell", "name": "train_dit"}),
    ]
    for event in told:
        step = told_by(event, imported=True).step
        assert "#" in step
        assert step != STEP.subject


def test_an_imported_event_that_is_handed_on_says_so() -> None:
    event = foreign_event()
    handed_on = as_imported(event, "f" * 64)
    assert check_event(handed_on)["run"]["facets"]["groundswell_import"]["producer"] == event["producer"]
    assert "facets" not in event["run"]
