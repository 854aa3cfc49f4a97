"""What is recorded of a step: rows, ledger and lineage, one unit of work a change of state."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from components.step_context import StepContext, StepResult
from components.store import ArtifactRef
from governance import lineage
from governance.canonical import canonical_digest, canonical_text, decimals
from infra.lineage import record_event
from infra.runs import StepError
from infra.tables import artifacts, steps

if TYPE_CHECKING:
    from infra.database import UnitOfWork


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
