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
from tests.foreign_events import AIRFLOW, dataset, dataset_event, foreign_event, job_event

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
    "job": job_event(inputs=[dataset("a")], outputs=[{**dataset("b"), "outputFacets": {"x": FACET}}]),
    "least of a job": {key: value for key, value in job_event().items() if key not in {"inputs", "outputs"}},
    "dataset": dataset_event({**dataset("a" * 400), "facets": {"x": FACET}}),
    "run and dataset": foreign_event(dataset=7),
}
UNSOUND = {
    "no object": [1],
    "null": None,
    "no job": {key: value for key, value in foreign_event().items() if key != "job"},
    "no run, job or dataset": {key: value for key, value in job_event().items() if key != "job"},
    "job and dataset": job_event(dataset=dataset("a")),
    "job without name": job_event(job={"namespace": "dbt"}),
    "job with datasets as object": job_event() | {"inputs": {}},
    "dataset as text": dataset_event({}) | {"dataset": "s3://lake/a"},
    "dataset without namespace": dataset_event({"name": "a"}),
    "dataset event without time": {key: value for key, value in dataset_event(dataset("a")).items() if key != "eventTime"},
    "facet of a dataset without producer": dataset_event({**dataset("a"), "facets": {"x": {}}}),
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
        (job_event("x" * 256), "255 characters"),
        (dataset_event(dataset("x" * 600)), "512 characters"),
        (dataset_event(dataset("a\0b")), "NUL"),
        (job_event(dataset=dataset("a")), "about a job and a dataset"),
        (dataset_event({}) | {"run": {}}, "job: field required"),
        ({"eventTime": "now"}, "of no run, no job and no dataset"),
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


def test_static_lineage_is_of_no_run_and_never_of_a_step_or_run_of_ours() -> None:
    told = told_by(job_event(inputs=[dataset("a")], outputs=[dataset(f"dataset:{'a' * 64}", "groundswell")]), imported=True)
    assert told.step == f"step:{told.run_id}/dbt#models.tiles"
    assert told.edges == (Edge("external:s3://lake#a", told.step), Edge(told.step, f"dataset:{'a' * 64}"))
    assert (told.event_type, told.job, told.time, told.is_static) == (
        "JOB",
        "models.tiles",
        "2026-11-20T07:15:30.123456Z",
        True,
    )
    again = told_by(job_event(eventTime="2026-12-20T08:15:30Z", producer=AIRFLOW), imported=True)
    assert (again.step, again.run_id) == (told.step, told.run_id)
    assert told_by(job_event("models.other"), imported=True).run_id != told.run_id
    ours = told_by(job_event(job={"namespace": "groundswell", "name": "training.train_dit"}), imported=True)
    assert ours.step == f"step:{ours.run_id}/groundswell#training.train_dit"
    assert ours.run_id.startswith("static-")
    of_dataset = told_by(dataset_event(dataset("a")), imported=True)
    assert (of_dataset.step, of_dataset.job, of_dataset.event_type, of_dataset.edges) == (
        "external:s3://lake#a",
        "",
        "DATASET",
        (),
    )
    assert told_by(dataset_event(dataset(f"dataset:{'a' * 64}", "groundswell")), imported=True).step == f"dataset:{'a' * 64}"
    assert not told_by(foreign_event(), imported=True).is_static


@pytest.mark.parametrize("part", ["run", "job", "dataset"])
def test_an_imported_event_that_is_handed_on_says_so(is_published, part: str) -> None:  # type: ignore[no-untyped-def]
    event = {"run": foreign_event(), "job": job_event(), "dataset": dataset_event(dataset("a"))}[part]
    handed_on = as_imported(event, "f" * 64)
    assert is_published(handed_on)
    assert check_event(handed_on)[part]["facets"]["groundswell_import"]["producer"] == event["producer"]
    assert "facets" not in event[part]
