"""The runtime: reuse that is verified, and a record of whatever happens."""

import errno
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, update

from components import runtime
from components.ports import Ports, StepReport
from components.runtime import RunContext, run_step
from components.specs import StepSpec
from governance.digest import tree_digest
from governance.errors import IntegrityError
from infra.errors import BadSettingError
from infra.home import Home
from infra.identities import first_identity
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import load_events, upstream
from infra.locking import try_lock
from infra.progress import read_progress
from infra.run_records import begin_run, end_dead_runs, end_run, lock_path
from infra.runs import get_run, get_steps
from infra.tables import steps

Run = Callable[[Mapping[str, Any], Mapping[str, Path], Mapping[str, Path], Ports], StepReport]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = "waves"


class CopySpec(StepSpec):
    """A step that lives in the tests."""

    @property
    def module(self) -> str:
        return "copy_step_of_the_tests"

    def config_class(self) -> type[BaseModel]:
        return Config


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Installs the step, and says each time that it really runs."""
    made: list[str] = []

    def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
        made.append(config.text)
        ports.progress.update(1, 2, "copying", loss=0.5)
        (outputs["latents"] / "copy.txt").write_bytes((inputs["dataset"] / "data.txt").read_bytes() + config.text.encode())
        ports.tracking.log_metrics({"loss": 0.5}, step=1)
        return StepReport(metrics={"num_items": 3, "loss": 0.25}, summary="3 items copied")

    install(monkeypatch, run)
    return made


def install(monkeypatch: pytest.MonkeyPatch, run: Callable[..., StepReport]) -> None:
    module = ModuleType("copy_step_of_the_tests")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "copy_step_of_the_tests", module)
    spec = CopySpec(name="copy", inputs={"dataset": "dataset"}, outputs={"latents": "latents"})
    monkeypatch.setattr(runtime, "STEPS", {"copy": spec})


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "data.txt").write_text("sea ")
    return folder


def begin(home: Home) -> RunContext:
    actor = first_identity(home.database)
    run_id = str(uuid.uuid4())
    begin_run(home, run_id=run_id, pipeline="training", runner="in-process", params={}, actor=actor)
    return RunContext(home=home, run_id=run_id, pipeline="training", actor=actor)


def actions(home: Home, run: RunContext) -> list[str]:
    return [entry.action for entry in iter_entries(home.database) if entry.run_id == run.run_id]


def test_a_step_runs_once_and_is_reused_afterwards(home: Home, dataset: Path, calls: list[str]) -> None:
    first, second = begin(home), begin(home)
    made = run_step(first, "copy", {}, {"dataset": dataset})
    again = run_step(second, "copy", {}, {"dataset": dataset})
    assert calls == ["waves"]
    assert made == again
    assert (made["latents"].path / "copy.txt").read_text() == "sea waves"
    assert made["latents"].digest == tree_digest(made["latents"].path)
    assert actions(home, first) == ["run.started", "step.started", "step.completed"]
    assert actions(home, second) == ["run.started", "step.started", "step.reused"]


def test_parts_of_a_step_are_told_apart_in_one_run(home: Home, dataset: Path, calls: list[str]) -> None:
    run = begin(home)
    run_step(run, "copy", {}, {"dataset": dataset}, part=0)
    run_step(run, "copy", {"text": "tides"}, {"dataset": dataset}, part=12)
    with home.database.read() as connection:
        found = {step.step: step.record["config"]["text"] for step in get_steps(connection, run.run_id)}
    assert found == {"copy-0000": "waves", "copy-0012": "tides"}
    folder = home.run_folder(run.run_id) / "progress"
    assert {path.stem for path in folder.glob("*.json")} == {"copy-0000", "copy-0012"}
    subjects = {entry.subject for entry in iter_entries(home.database) if entry.action == "step.completed"}
    assert subjects == {f"step:{run.run_id}/copy-0000", f"step:{run.run_id}/copy-0012"}


def test_work_that_may_come_out_otherwise_is_done_again_with_what_it_has_kept(
    home: Home, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[bool] = []

    def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
        attempts.append((ports.scratch / "kept").exists())
        (ports.scratch / "kept").touch()
        (outputs["latents"] / "copy.txt").write_text("sea")
        return StepReport(facts={"final": len(attempts) > 1})

    install(monkeypatch, run)
    folders = [run_step(begin(home), "copy", {}, {"dataset": dataset})["latents"].path for _ in range(3)]
    assert attempts == [False, True]
    assert not (folders[0].parents[1] / "scratch").exists()


def test_reuse_is_decided_before_anything_heavy_is_imported(
    home: Home, dataset: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_step(begin(home), "copy", {}, {"dataset": dataset})
    monkeypatch.setitem(sys.modules, "copy_step_of_the_tests", None)  # importing it now raises
    monkeypatch.setitem(sys.modules, "mlflow", None)
    run_step(begin(home), "copy", {}, {"dataset": dataset})
    assert calls == ["waves"]


def test_the_commit_is_on_record_and_makes_no_difference_to_the_work(
    home: Home, dataset: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for revision in ("a" * 40, f"{'b' * 40}-dirty", ""):
        monkeypatch.setattr("components.step_context.source_revision", lambda revision=revision: revision)
        runs.append(begin(home))
        run_step(runs[-1], "copy", {}, {"dataset": dataset})
    assert calls == ["waves"]
    with home.database.read() as connection:
        events = load_events(connection)
        (made,) = get_steps(connection, runs[0].run_id)
    assert made.record["environment"]["revision"] == "a" * 40
    said = [event["job"]["facets"].get("sourceCodeLocation") for event in events]
    assert [(one["type"], one["version"], one["url"]) if one else None for one in said] == [
        *[("git", "a" * 40, f"swh:1:rev:{'a' * 40}")] * 2,
        *[("git", f"{'b' * 40}-dirty", f"swh:1:rev:{'b' * 40}")] * 2,
        *[None] * 2,
    ]


@pytest.mark.parametrize("change", ["config", "input"])
def test_other_work_is_not_reused(home: Home, dataset: Path, calls: list[str], change: str) -> None:
    run_step(begin(home), "copy", {}, {"dataset": dataset})
    if change == "input":
        (dataset / "data.txt").write_text("ocean ")
    run_step(begin(home), "copy", {"text": "tides" if change == "config" else "waves"}, {"dataset": dataset})
    assert len(calls) == 2


def test_a_tampered_cached_output_is_recorded_kept_and_made_anew(home: Home, dataset: Path, calls: list[str]) -> None:
    made = run_step(begin(home), "copy", {}, {"dataset": dataset})
    (made["latents"].path / "copy.txt").write_text("sea wavez")
    run = begin(home)
    again = run_step(run, "copy", {}, {"dataset": dataset})
    assert calls == ["waves", "waves"]
    assert again == made
    assert (made["latents"].path / "copy.txt").read_text() == "sea waves"
    assert "artifact.tampered" in actions(home, run)
    assert [path.read_text() for path in home.quarantine.rglob("copy.txt")] == ["sea wavez"]


def test_an_input_that_is_not_what_its_producer_declared_is_refused(home: Home, dataset: Path, calls: list[str]) -> None:
    with pytest.raises(IntegrityError, match="dataset"):
        run_step(begin(home), "copy", {}, {"dataset": dataset}, declared={"dataset": "0" * 64})
    assert calls == []


def test_a_misspelt_key_is_refused_by_name(home: Home, dataset: Path, calls: list[str]) -> None:
    with pytest.raises(BadSettingError, match=r"copy\.txet"):
        run_step(begin(home), "copy", {"txet": "tides"}, {"dataset": dataset})
    assert calls == []


@pytest.mark.parametrize(
    ("error", "status", "exit_code", "event"),
    [
        (ValueError("odd"), "failed", 1, "FAIL"),
        (OSError(errno.ENOSPC, "No space left on device", "latents.safetensors"), "failed", 6, "FAIL"),
        (KeyboardInterrupt(), "interrupted", 130, "ABORT"),
    ],
)
def test_a_step_that_dies_is_visibly_failed_and_leaves_no_output(
    home: Home,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
    exit_code: int,
    event: str,
) -> None:
    def run(_: Config, __: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
        (outputs["latents"] / "half.txt").write_text("half")
        (ports.scratch / "checkpoint").write_text("kept")
        raise error

    install(monkeypatch, run)
    context = begin(home)
    with pytest.raises(type(error)):
        run_step(context, "copy", {}, {"dataset": dataset})
    with home.database.read() as connection:
        (step,) = get_steps(connection, context.run_id)
        events = load_events(connection, run_ids=[context.run_id])
    assert (step.status, step.error and step.error.exit_code) == (status, exit_code)
    assert events[-1]["eventType"] == event
    assert not list(home.work.glob("*/outputs"))
    assert [path.read_text() for path in home.work.glob("*/scratch/checkpoint")] == ["kept"]
    assert actions(home, context)[-1] == f"step.{status}"
    progress = read_progress(home.run_folder(context.run_id) / "progress" / "copy.json")
    assert progress is not None
    assert progress.status == status


def test_scratch_is_found_again_by_the_next_attempt(home: Home, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Config, __: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
        checkpoint = ports.scratch / "checkpoint"
        if not checkpoint.exists():
            checkpoint.write_text("step 7")
            raise ValueError("killed")
        (outputs["latents"] / "done.txt").write_text(checkpoint.read_text())
        return StepReport()

    install(monkeypatch, run)
    with pytest.raises(ValueError, match="killed"):
        run_step(begin(home), "copy", {}, {"dataset": dataset})
    made = run_step(begin(home), "copy", {}, {"dataset": dataset})
    assert (made["latents"].path / "done.txt").read_text() == "step 7"


def test_the_cache_outlives_the_work_and_is_the_steps_own(home: Home, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    def run(_: Config, __: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
        assert ports.cache == home.path / "cache" / "copy"
        found.append((ports.cache / "kept").exists())
        ports.cache.mkdir(parents=True, exist_ok=True)
        (ports.cache / "kept").write_text("kept")
        (outputs["latents"] / "done.txt").write_text("done")
        return StepReport()

    install(monkeypatch, run)
    first = run_step(begin(home), "copy", {}, {"dataset": dataset})
    (dataset / "more.txt").write_text("other work")
    other = run_step(begin(home), "copy", {}, {"dataset": dataset})
    assert found == [False, True]
    assert first["latents"].digest == other["latents"].digest  # what is kept is no part of the outputs


def test_outputs_lead_back_to_inputs(home: Home, dataset: Path, calls: list[str]) -> None:
    made = run_step(begin(home), "copy", {}, {"dataset": dataset})
    with home.database.read() as connection:
        graph = upstream(connection, made["latents"].subject)
    assert f"dataset:{tree_digest(dataset)}" in graph.nodes


def test_metrics_are_written_as_prometheus_text(home: Home, dataset: Path, calls: list[str]) -> None:
    run_step(begin(home), "copy", {}, {"dataset": dataset})
    text = (home.metrics / "training-copy.prom").read_text()
    assert 'groundswell_step_status{pipeline="training",status="completed",step="copy"} 1.0' in text
    assert 'groundswell_step_metric{metric="num_items",pipeline="training",step="copy"} 3.0' in text


def test_the_step_is_a_run_in_mlflow_with_its_metrics(home: Home, dataset: Path, calls: list[str]) -> None:
    context = begin(home)
    run_step(context, "copy", {}, {"dataset": dataset})
    with home.database.read() as connection:
        (step,) = get_steps(connection, context.run_id)
    from mlflow.tracking import MlflowClient

    logged = MlflowClient(tracking_uri=home.settings.mlflow_tracking_uri).get_run(step.mlflow_run_id)
    assert logged.data.metrics["num_items"] == 3
    assert logged.data.params["text"] == "waves"
    (given,) = logged.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in given.tags}["groundswell.digest"] == tree_digest(dataset)
    assert logged.info.status == "FINISHED"


def test_a_run_whose_process_is_gone_is_recorded_as_failed(home: Home) -> None:
    alive, dead = begin(home), begin(home)
    with try_lock(lock_path(home, alive.run_id)):
        ended = end_dead_runs(home)
    assert [run.run_id for run in ended] == [dead.run_id]
    with home.database.read() as connection:
        assert get_run(connection, dead.run_id).status == "failed"
        assert get_run(connection, alive.run_id).status == "running"


def test_ending_a_run_ends_the_step_that_never_said_so(home: Home, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = begin(home)
    install(monkeypatch, lambda *_: StepReport())
    spec = runtime.STEPS["copy"]
    inside = runtime._context(context, spec, Config(), {"dataset": dataset})
    runtime.Recorder(inside).started()  # and then the process is killed
    end_run(home, run_id=context.run_id, status="failed")
    with home.database.read() as connection:
        (step,) = get_steps(connection, context.run_id)
    assert step.status == "failed"
    assert step.error is not None


def test_the_ledger_knows_what_a_step_recorded(home: Home, dataset: Path, calls: list[str]) -> None:
    run = begin(home)
    run_step(run, "copy", {}, {"dataset": dataset})
    run_step(begin(home), "copy", {}, {"dataset": dataset})
    key = home.keys.log_public_key()
    assert verify_ledger(home.database, key).ok
    with home.database.unit_of_work() as uow:
        text = uow.connection.execute(select(steps.c.record).where(steps.c.run_id == run.run_id)).scalar_one()
        changed = text.replace('"num_items":3', '"num_items":4')
        uow.connection.execute(update(steps).where(steps.c.run_id == run.run_id).values(record=changed))
    report = verify_ledger(home.database, key)
    assert not report.ok
    assert f"step {run.run_id}/copy" in report.problems[0]
