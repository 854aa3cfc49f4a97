"""Runs and their steps, as rows; what happens to them is decided in `components.runtime` and `pipelines`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from governance.canonical import canonical_digest
from governance.errors import UnknownSubjectError
from infra.tables import runs, steps

# Runs of a whole pipeline, which one MLflow run stands for, by these; others are of single steps.
PIPELINE_RUNNERS = ("subprocess", "docker")
# Runs of a whole pipeline on a cluster, whose steps are runs of their own in MLflow.
REMOTE_RUNNER = "kubeflow"
_MIN_PREFIX = 6


@dataclass(frozen=True, kw_only=True)
class StepError:
    """Why a step failed, as its process recorded it."""

    diagnosis: str
    hint: str = ""
    exit_code: int = 1

    def to_json(self) -> str:
        """Renders the form that is stored."""
        return json.dumps({"diagnosis": self.diagnosis, "hint": self.hint, "exit_code": self.exit_code}, sort_keys=True)

    @property
    def digest(self) -> str:
        """Stands for it in the ledger, which holds no free text."""
        return canonical_digest({"diagnosis": self.diagnosis, "hint": self.hint, "exit_code": self.exit_code})

    @classmethod
    def from_json(cls, text: str | None) -> "StepError | None":
        """Parses the form that is stored; None where there was no error."""
        return cls(**json.loads(text)) if text else None


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run, as stored."""

    run_id: str
    pipeline: str
    status: str
    runner: str
    params: dict[str, Any]
    actor: str
    started: str
    ended: str | None
    error: StepError | None
    pid: int | None
    host: str | None
    mlflow_run_id: str | None
    overhead_s: float | None

    @property
    def is_whole(self) -> bool:
        """Whether it has all steps of its pipeline; others are of single steps, also under a pipeline's name."""
        return self.runner in {*PIPELINE_RUNNERS, REMOTE_RUNNER}

    @property
    def where(self) -> str:
        """By what it runs or ran, and where: ``kubeflow on kubeflow.example``, ``subprocess on laptop``."""
        return f"{self.runner} on {self.host}" if self.host else self.runner


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One step of a run, as stored."""

    run_id: str
    step: str
    status: str
    fingerprint: str
    started: str
    ended: str | None
    work_s: float | None
    record: dict[str, Any]
    error: StepError | None
    mlflow_run_id: str | None


def list_runs(
    connection: Connection, limit: int = 50, *, before: str | None = None, pipeline: str | None = None, status: str | None = None
) -> list[RunRow]:
    """Returns the newest runs, newest first.

    Args:
        connection: An open connection.
        limit: At most so many.
        before: Only those that started earlier.
        pipeline: Only those of this pipeline.
        status: Only those in this state.
    """
    query = select(runs).order_by(runs.c.started.desc()).limit(limit)
    if before is not None:
        query = query.where(runs.c.started < before)
    if pipeline is not None:
        query = query.where(runs.c.pipeline == pipeline)
    if status is not None:
        query = query.where(runs.c.status == status)
    return [_run(row) for row in connection.execute(query)]


def pipeline_names(connection: Connection) -> list[str]:
    """Returns the pipelines that runs are recorded of, in alphabetical order."""
    return list(connection.execute(select(runs.c.pipeline).distinct().order_by(runs.c.pipeline)).scalars())


def get_run(connection: Connection, run_id: str) -> RunRow:
    """Returns one run, by its id or by a prefix of at least six characters that only it has.

    Raises:
        UnknownSubjectError: No run, or more than one, has that id or prefix.
    """
    query = select(runs).where(runs.c.run_id == run_id)
    found = connection.execute(query).all()
    if not found and len(run_id) >= _MIN_PREFIX:
        found = connection.execute(select(runs).where(runs.c.run_id.startswith(run_id, autoescape=True)).limit(2)).all()
    if len(found) != 1:
        problem = "no run has the id" if not found else "more than one run begins with"
        raise UnknownSubjectError(f"{problem} {run_id!r}", hint="`groundswell runs list` shows the runs of this home")
    return _run(found[0])


def get_steps(connection: Connection, run_id: str) -> list[StepRow]:
    """Returns the steps of a run, in the order in which they started."""
    return [_step(row) for row in connection.execute(select(steps).where(steps.c.run_id == run_id).order_by(steps.c.started))]


def find_completed_step(connection: Connection, fingerprint: str) -> StepRow | None:
    """Returns the newest completed step with this fingerprint, in whichever run."""
    query = (
        select(steps)
        .where(steps.c.fingerprint == fingerprint, steps.c.status == "completed")
        .order_by(steps.c.ended.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return _step(row) if row else None


def unfinished_runs(connection: Connection) -> Iterable[RunRow]:
    """Returns the runs that are recorded as running."""
    return [_run(row) for row in connection.execute(select(runs).where(runs.c.status == "running"))]


def _run(row: Row[Any]) -> RunRow:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a mapping
    return RunRow(**{**values, "params": json.loads(values["params"]), "error": StepError.from_json(values["error"])})


def _step(row: Row[Any]) -> StepRow:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a mapping
    return StepRow(
        **{**values, "record": json.loads(values["record"] or "{}"), "error": StepError.from_json(values["error"])},
    )
