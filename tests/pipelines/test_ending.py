"""How a run on a cluster ends in the record: by the exit handler, once, with the cause from whoever knows it."""

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from infra.home import Home
from infra.identities import first_identity
from infra.ledger import iter_entries
from infra.run_records import begin_run
from infra.runs import RunRow, StepError, get_run
from infra.tables import steps
from infra.train_jobs.leftovers import ENDS_TRAIN_JOBS
from pipelines.ending import record_run_end
from tests.kubernetes_server import FAILED, RUNNING, TRAIN_JOBS, kubernetes_cluster
from tests.pipelines.calling import ROOT, environment

HERE = """
import sys
from kfp import dsl, local
from pipelines.graph import load_pipeline
from pipelines.shaping import compiled_for

home, run_id, dataset = sys.argv[1:]
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=home, raise_on_error=False)
codec = load_pipeline("codec")
with compiled_for(None):
    shaped = dsl.pipeline(codec.pipeline_func, name=codec.name)
shaped(home=home, run_id=run_id, params="{}", dataset=dataset)
"""


def begin(home: Home) -> str:
    run_id = str(uuid.uuid4())
    actor = first_identity(home.database)
    begin_run(home, run_id=run_id, pipeline="codec", runner="kubeflow", params={}, actor=actor)
    return run_id


def failed_step(home: Home, run_id: str, error: StepError) -> None:
    with home.database.unit_of_work() as uow:
        values = {"status": "failed", "fingerprint": "0" * 64, "started": uow.time, "ended": uow.time, "error": error.to_json()}
        uow.connection.execute(insert(steps).values(run_id=run_id, step="validate_data", **values))


def ended(home: Home, run_id: str) -> RunRow:
    with home.database.read() as connection:
        return get_run(connection, run_id)


def endings(home: Home, run_id: str) -> list[str]:
    return [entry.action for entry in iter_entries(home.database) if entry.run_id == run_id][1:]


@pytest.mark.parametrize(
    ("state", "message", "status", "words", "code"),
    [
        ("SUCCEEDED", "", "completed", None, None),
        ("FAILED", "pod evicted:\nthe node was low on memory", "failed", "pod evicted: the node was low on memory", 1),
        ("FAILED", "", "failed", "no step says why", 1),
        ("CANCELED", "by a person", "interrupted", "stopped on the cluster", 130),
    ],
)
def test_what_the_cluster_says_is_how_the_run_ended(
    home: Home, state: str, message: str, status: str, words: str | None, code: int | None
) -> None:
    run_id = begin(home)
    assert record_run_end(str(home.path), run_id, state=state, message=message) == status
    row = ended(home, run_id)
    assert row.status == status
    assert endings(home, run_id) == [f"run.{status}"]
    if words is None:
        assert row.error is None
    else:
        assert row.error is not None
        assert (words in row.error.diagnosis, row.error.exit_code) == (True, code)
        assert "\n" not in row.error.diagnosis


def test_the_step_that_failed_knows_better_and_a_run_ends_once(home: Home) -> None:
    run_id = begin(home)
    failed_step(home, run_id, StepError(diagnosis="the dataset holds no pictures", hint="name another", exit_code=3))
    for state in ("FAILED", "SUCCEEDED"):
        record_run_end(str(home.path), run_id, state=state, message="Process exited with code 1")
    row = ended(home, run_id)
    assert row.error == StepError(diagnosis="the dataset holds no pictures", hint="name another", exit_code=3)
    assert endings(home, run_id) == ["run.failed"]


def test_kubeflow_calls_the_handler_when_a_step_has_failed(home: Home, tmp_path: Path) -> None:
    run_id, dataset = begin(home), tmp_path / "dataset"
    dataset.mkdir()
    subprocess.run(
        [sys.executable, "-c", HERE, str(home.path), run_id, str(dataset)],
        cwd=ROOT,
        env=environment(),
        check=False,
        capture_output=True,
        timeout=200,
    )
    row = ended(home, run_id)
    assert (row.status, row.error is not None and row.error.exit_code) == ("failed", 3), row
    assert endings(home, run_id) == ["step.started", "step.failed", "run.failed"]


def test_train_jobs_that_a_killed_step_has_left_are_ended_with_the_run(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, other = begin(home), str(uuid.uuid4())
    with kubernetes_cluster() as cluster:
        monkeypatch.setenv("GROUNDSWELL_TRAIN_JOB", ENDS_TRAIN_JOBS)
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path)))
        cluster.futures = [[RUNNING], [FAILED], [RUNNING]]
        for name, of in (("going", run_id), ("failed", run_id), ("others", other)):
            cluster.answer("POST", TRAIN_JOBS, {}, a_train_job(name, of))
        assert record_run_end(str(home.path), run_id, state="FAILED", message="killed") == "failed"
        assert cluster.deleted == ["going"]
        assert record_run_end(str(home.path), run_id, state="FAILED", message="killed") == "failed"
        assert cluster.deleted == ["going", "going"], "also where the run's end was recorded before"


def test_a_cluster_that_does_not_answer_keeps_no_run_from_ending(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = begin(home)
    with kubernetes_cluster() as cluster:
        monkeypatch.setenv("GROUNDSWELL_TRAIN_JOB", ENDS_TRAIN_JOBS)
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path)))
    assert record_run_end(str(home.path), run_id, state="SUCCEEDED", message="") == "completed"
    assert f"TrainJobs of run {run_id} may be left: the cluster's API at" in capsys.readouterr().err


def a_train_job(name: str, run_id: str) -> dict[str, Any]:
    labels = {"groundswell.io/run": run_id}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"runtimeRef": {"name": "torch-distributed"}}}
