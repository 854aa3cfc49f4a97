"""What happens around a step: records, tracking, metrics, progress. Each observer knows one of them."""

import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from components.ports import StepReport
from components.specs import StepSpec
from components.store import ArtifactRef, WorkFolder
from governance import lineage
from governance.canonical import canonical_digest, canonical_text, decimals
from infra.gpu_usage import GpuSampler, usage_path
from infra.home import Home
from infra.lineage import record_event
from infra.progress import ProgressFile
from infra.runs import PIPELINE_RUNNERS, StepError
from infra.source_digest import lock_digest
from infra.source_revision import source_revision
from infra.tables import artifacts, runs, steps

if TYPE_CHECKING:
    from pydantic import BaseModel

    from infra.database import UnitOfWork
    from infra.mlflow_registry import MlflowRegistry
    from infra.mlflow_tracking import MlflowTracking

_PARENT_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """A step about to run: what it is given, and the digest of the work."""

    home: Home
    run_id: str
    pipeline: str
    actor: str
    spec: StepSpec
    config: "BaseModel"
    inputs: Mapping[str, ArtifactRef]
    code_digest: str
    fingerprint: str
    work: WorkFolder
    part: int | None = None

    @property
    def step(self) -> str:
        """What the step is called within its run: its name, and the number of the part where the run does it several times."""
        return self.spec.name if self.part is None else f"{self.spec.name}-{self.part:04d}"

    @property
    def subject(self) -> str:
        """The step's name in ledger and lineage."""
        return f"step:{self.run_id}/{self.step}"

    @property
    def environment(self) -> dict[str, str]:
        """Where the step runs, as lineage records it."""
        return {
            "lock_digest": lock_digest(),
            "python": platform.python_version(),
            "platform": f"{sys.platform}-{platform.machine()}",
            "host": platform.node(),
            "accelerator": _accelerator(),
            **({"revision": revision} if (revision := source_revision()) else {}),
            **self._image,
        }

    @property
    def _image(self) -> dict[str, str]:
        name, _, digest = self.home.settings.images.get(self.spec.name, "").rpartition("@")
        return {"image": name, "image_digest": digest} if digest else {}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """A step that has run."""

    context: StepContext
    report: StepReport
    outputs: Mapping[str, ArtifactRef]
    work_s: float

    def record(self) -> dict[str, Any]:
        """Returns what the database keeps of it."""
        context = self.context
        return {
            "config": context.config.model_dump(mode="json"),
            "inputs": _references(context.inputs),
            "outputs": _references(self.outputs),
            "metrics": dict(self.report.metrics),
            "facts": dict(self.report.facts),
            "summary": self.report.summary,
            "code_digest": context.code_digest,
            "environment": context.environment,
        }


class Recorder:
    """Writes the step's rows, ledger entries and lineage events, each state change in one unit of work."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._began = time.monotonic()
        self._started = ""

    def started(self) -> None:
        """Records that the step has started; a retried step starts anew."""
        context = self._context
        with context.home.database.unit_of_work() as uow:
            key = (steps.c.run_id == context.run_id) & (steps.c.step == context.step)
            uow.connection.execute(steps.delete().where(key))
            uow.connection.execute(
                steps.insert().values(
                    run_id=context.run_id,
                    step=context.step,
                    status="running",
                    fingerprint=context.fingerprint,
                    started=uow.time,
                )
            )
            self._event(uow, "START")
            details = {"fingerprint": context.fingerprint, "lineage": uow.lineage(), "started": uow.time}
            uow.append("step.started", context.subject, details, run_id=context.run_id)
            self._started = uow.time

    def completed(self, result: StepResult, *, mlflow_run_id: str | None) -> None:
        """Records the outputs and that the step has completed."""
        with self._context.home.database.unit_of_work() as uow:
            record = result.record()
            self._end(uow, "completed", record=record, work_s=result.work_s, mlflow_run_id=mlflow_run_id)
            for reference in result.outputs.values():
                self._insert_artifact(uow, reference, facts=result.report.facts)
            self._event(uow, "COMPLETE", record=record, facts=record["facts"])
            self._append(
                uow,
                "step.completed",
                record,
                facts_digest=canonical_digest(dict(result.report.facts), floats=True),
                mlflow_run_id=mlflow_run_id,
                work_s=result.work_s,
            )

    def reused(self, record: Mapping[str, Any]) -> None:
        """Records that an earlier result was verified and reused."""
        with self._context.home.database.unit_of_work() as uow:
            self._end(uow, "reused", record=record, work_s=0.0)
            self._event(uow, "COMPLETE", record=record, facts=record["facts"], reused=True)
            self._append(uow, "step.reused", record, mlflow_run_id=None, work_s=0.0)

    def tampered(self, problems: list[str], kept: Path) -> None:
        """Records that a cached output was not what it was recorded to be, and where it is kept."""
        context = self._context
        with context.home.database.unit_of_work() as uow:
            details = {"fingerprint": context.fingerprint, "kept": kept.name, "problems": problems}
            uow.append("artifact.tampered", context.subject, details, run_id=context.run_id)

    def failed(self, status: str, problem: StepError, facts: Mapping[str, Any]) -> None:
        """Records that the step has failed or was interrupted, and what it had found out of its inputs."""
        with self._context.home.database.unit_of_work() as uow:
            work_s = time.monotonic() - self._began
            self._end(uow, status, error=problem.to_json(), work_s=work_s)
            self._event(uow, "ABORT" if status == "interrupted" else "FAIL", error=problem.diagnosis, facts=facts)
            details = {
                **self._ending(uow, work_s=work_s, mlflow_run_id=None),
                "error_digest": problem.digest,
                "exit_code": problem.exit_code,
            }
            uow.append(f"step.{status}", self._context.subject, details, run_id=self._context.run_id)

    def _end(self, uow: "UnitOfWork", status: str, *, record: Mapping[str, Any] | None = None, **values: Any) -> None:
        context = self._context
        key = (steps.c.run_id == context.run_id) & (steps.c.step == context.step)
        text = canonical_text(record, floats=True) if record is not None else None
        uow.connection.execute(steps.update().where(key).values(status=status, ended=uow.time, record=text, **values))

    def _ending(self, uow: "UnitOfWork", *, work_s: float, mlflow_run_id: str | None) -> dict[str, Any]:
        """Returns what an entry says of a step's end, however it ended."""
        return {
            "ended": uow.time,
            "fingerprint": self._context.fingerprint,
            "lineage": uow.lineage(),
            "mlflow_run_id": mlflow_run_id,
            "started": self._started,
            "work_s": decimals(work_s),
        }

    def _append(
        self,
        uow: "UnitOfWork",
        action: str,
        record: Mapping[str, Any],
        *,
        work_s: float,
        mlflow_run_id: str | None,
        **more: str,
    ) -> None:
        context = self._context
        details = {
            **self._ending(uow, work_s=work_s, mlflow_run_id=mlflow_run_id),
            **more,
            "code_digest": context.code_digest,
            "inputs": {name: reference.subject for name, reference in context.inputs.items()},
            "metrics": decimals(dict(record["metrics"])),
            "outputs": {name: f"{reference['kind']}:{reference['digest']}" for name, reference in record["outputs"].items()},
            "record_digest": canonical_digest(record, floats=True),
        }
        uow.append(action, context.subject, details, run_id=context.run_id)

    def _insert_artifact(self, uow: "UnitOfWork", reference: ArtifactRef, *, facts: Mapping[str, Any]) -> None:
        key = (artifacts.c.digest == reference.digest) & (artifacts.c.kind == reference.kind)
        if uow.connection.execute(select(artifacts.c.digest).where(key)).first() is None:
            uow.connection.execute(
                artifacts.insert().values(
                    digest=reference.digest,
                    kind=reference.kind,
                    location=str(reference.path),
                    facts=canonical_text(dict(facts), floats=True),
                    created=uow.time,
                )
            )

    def _event(
        self,
        uow: "UnitOfWork",
        event_type: lineage.EventType,
        *,
        record: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        error: str | None = None,
        reused: bool = False,
    ) -> None:
        context = self._context
        event = lineage.run_event(
            event_type,
            lineage.StepIdentity(run_id=context.run_id, pipeline=context.pipeline, step=context.step),
            time=uow.time,
            inputs=[_described(one, facts or {}) for one in context.inputs.values()],
            outputs=[lineage.ArtifactRef(kind=one["kind"], digest=one["digest"]) for one in record["outputs"].values()]
            if record
            else [],
            config=context.config.model_dump(mode="json"),
            metrics=record["metrics"] if record else None,
            environment=context.environment,
            code_digest=context.code_digest,
            revision=context.environment.get("revision", ""),
            error=error,
            reused=reused,
        )
        record_event(uow, event)


def _described(reference: ArtifactRef, facts: Mapping[str, Any]) -> lineage.ArtifactRef:
    """Returns an input as lineage names it; of a dataset also what the step says of it: licences, and checks that it made."""
    if reference.kind != "dataset":
        return lineage.ArtifactRef(kind=reference.kind, digest=reference.digest)
    return lineage.ArtifactRef(
        kind=reference.kind,
        digest=reference.digest,
        licences=facts.get("licences", ()),
        attribution=facts.get("attribution", ""),
        assertions=[lineage.Assertion(**check) for check in facts.get("assertions", ())],
    )


class TrackingObserver:
    """Logs the step as a child run in MLflow; MLflow is imported beside the step's own work."""

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def start(self) -> None:
        """Begins to import MLflow, beside whatever else is going on."""
        self.port.start()

    @cached_property
    def port(self) -> "MlflowTracking":
        """The tracking port."""
        from infra.mlflow_tracking import MlflowTracking

        context = self._context
        settings = context.home.settings
        tracking = MlflowTracking(
            settings.mlflow_tracking_uri,
            settings.artifact_root,
            f"groundswell-{context.pipeline}",
            context.step,
            lambda: _parent_run(context),
            {
                "groundswell.run_id": context.run_id,
                "groundswell.step": context.step,
                "groundswell.fingerprint": context.fingerprint,
            },
        )
        tracking.log_inputs({name: reference.subject for name, reference in context.inputs.items()})
        tracking.log_params(context.config.model_dump(mode="json"))
        return tracking

    def registry(self) -> "MlflowRegistry":
        """Returns the registry port."""
        from infra.mlflow_registry import MlflowRegistry

        context = self._context
        return MlflowRegistry(
            context.home.database,
            context.home.settings.mlflow_tracking_uri,
            context.home.settings.artifact_root,
            context.home.package_signing_key,
            context.actor,
            context.run_id,
            self.port.run_id,
        )

    def ended(self, report: StepReport) -> None:
        """Logs what the step reports."""
        self.port.log_metrics(report.metrics)
        for output, names in report.artifacts.items():
            for name in names:
                self.port.log_artifact(self._context.work.partial_output(output) / name)

    def finish(self, status: str) -> str | None:
        """Ends the run in MLflow and returns its id.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        """
        return self.port.finish(status)


class MetricsObserver:
    """Prometheus metrics of the step, as a text file that a node exporter collects."""

    def __init__(self, context: StepContext) -> None:
        from prometheus_client import CollectorRegistry

        self._labels = {"pipeline": context.pipeline, "step": context.spec.name}
        self._path = context.home.metrics / f"{context.pipeline}-{context.spec.name}.prom"
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Any] = {}

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge."""
        from prometheus_client import Gauge

        names = [*self._labels, *sorted(labels)]
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"groundswell_{name}", name.replace("_", " "), names, registry=self._registry)
        self._gauges[name].labels(**self._labels, **labels).set(value)

    def ended(self, status: str, *, work_s: float, values: Mapping[str, float] | None = None) -> None:
        """Writes the file."""
        from prometheus_client import write_to_textfile

        for known in ("completed", "reused", "failed", "interrupted"):
            self.gauge("step_status", float(status == known), status=known)
        self.gauge("step_work_seconds", work_s)
        self.gauge("step_ended_timestamp_seconds", time.time())
        for name, value in (values or {}).items():
            self.gauge("step_metric", value, metric=name)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(self._path), self._registry)


class ProgressObserver:
    """The progress file of the step, and beside it how busy the machine's GPUs are."""

    def __init__(self, context: StepContext) -> None:
        path = context.home.run_folder(context.run_id) / "progress" / f"{context.step}.json"
        self.port = ProgressFile(path)
        self._gpus = GpuSampler(usage_path(path))

    def ended(self, status: str, summary: str) -> None:
        """Writes the final state."""
        self._gpus.stop()
        self.port.end(status, summary)


def _accelerator() -> str:
    """Names what computes; a step that never imported torch used the processor, and torch is not imported to ask."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return f"none (processor: {platform.machine()}, {os.cpu_count()} cores)"


def _references(references: Mapping[str, ArtifactRef]) -> dict[str, dict[str, str]]:
    return {
        name: {"digest": reference.digest, "kind": reference.kind, "location": str(reference.path)}
        for name, reference in references.items()
    }


def _parent_run(context: StepContext) -> str | None:
    """Waits, in the background, until whoever runs the pipeline has made its run in MLflow."""
    query = select(runs.c.mlflow_run_id, runs.c.runner).where(runs.c.run_id == context.run_id)
    deadline = time.monotonic() + _PARENT_TIMEOUT_S
    while True:
        with context.home.database.read() as connection:
            row = connection.execute(query).first()
        if row is None or row.mlflow_run_id is not None or row.runner not in PIPELINE_RUNNERS or time.monotonic() > deadline:
            return row.mlflow_run_id if row else None
        time.sleep(0.2)
