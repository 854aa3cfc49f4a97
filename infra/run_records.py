"""How a run begins and ends in the record: its row and its ledger entry in one unit of work."""

import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from governance.canonical import canonical_digest, canonical_text, decimals
from infra.attestations import attest_run
from infra.locking import is_locked
from infra.runs import RunRow, StepError, get_run, get_steps, unfinished_runs
from infra.tables import runs, steps

if TYPE_CHECKING:
    from infra.home import Home

_DIED = StepError(
    diagnosis="the process ended without a word (killed, or the machine went down)",
    hint="run the same command again: finished steps are reused and training resumes",
    exit_code=1,
)


def begin_run(
    home: "Home",
    *,
    run_id: str,
    pipeline: str,
    runner: str,
    params: Mapping[str, Any],
    actor: str,
    inputs: Iterable[str] = (),
    host: str | None = None,
) -> None:
    """Records that a run has begun.

    Args:
        home: The home.
        run_id: A UUID.
        pipeline: The pipeline's name.
        runner: What runs its steps: ``subprocess``, ``docker``, ``dvc``, ``in-process``, ``kubeflow``.
        params: Its parameters.
        actor: The identity that started it.
        inputs: Subjects of the artifacts that it is given.
        host: The machine or cluster that runs it; this machine, by this process, if not given.
    """
    with home.database.unit_of_work() as uow:
        uow.connection.execute(
            runs.insert().values(
                run_id=run_id,
                pipeline=pipeline,
                status="running",
                runner=runner,
                params=canonical_text(params, floats=True),
                actor=actor,
                started=uow.time,
                pid=os.getpid() if host is None else None,
                host=host or platform.node(),
            )
        )
        details = {
            "inputs": sorted(inputs),
            "params_digest": canonical_digest(params, floats=True),
            "pipeline": pipeline,
            "runner": runner,
            "started": uow.time,
        }
        uow.append("run.started", f"run:{run_id}", details, actor=actor, run_id=run_id)


def end_run(home: "Home", *, run_id: str, status: str, error: StepError | None = None, wall_s: float | None = None) -> None:
    """Records that a run has ended, and that steps which never said so have ended with it.

    With the end of a run that registered a model version, the version's provenance is signed and recorded.

    Args:
        home: The home.
        run_id: The run.
        status: ``completed``, ``failed`` or ``interrupted``.
        error: Why it did not complete.
        wall_s: Seconds that the run took; what of it was not its steps' own work is kept as overhead.
    """
    with home.database.unit_of_work() as uow:
        for step in get_steps(uow.connection, run_id):
            if step.status == "running":
                key = (steps.c.run_id == run_id) & (steps.c.step == step.step)
                left = status if status != "completed" else "failed"
                uow.connection.execute(
                    update(steps).where(key).values(status=left, ended=uow.time, error=(error or _DIED).to_json())
                )
                details = {
                    "ended": uow.time,
                    "error_digest": (error or _DIED).digest,
                    "exit_code": (error or _DIED).exit_code,
                    "fingerprint": step.fingerprint,
                    "mlflow_run_id": step.mlflow_run_id,
                    "started": step.started,
                    "work_s": decimals(step.work_s),
                }
                uow.append(f"step.{left}", f"step:{run_id}/{step.step}", details, run_id=run_id)
        overhead_s = None
        if wall_s is not None:
            overhead_s = max(0.0, wall_s - sum(step.work_s or 0.0 for step in get_steps(uow.connection, run_id)))
        uow.connection.execute(
            update(runs)
            .where(runs.c.run_id == run_id)
            .values(status=status, ended=uow.time, error=error.to_json() if error else None, overhead_s=overhead_s)
        )
        if status == "completed":
            attest_run(uow, home.keys, get_run(uow.connection, run_id), get_steps(uow.connection, run_id))
        details = {"ended": uow.time, "overhead_s": decimals(overhead_s)}
        details |= {"error_digest": error.digest, "exit_code": error.exit_code} if error else {"error": None}
        uow.append(f"run.{status}", f"run:{run_id}", details, run_id=run_id)


def set_mlflow_run(home: "Home", *, run_id: str, mlflow_run_id: str) -> None:
    """Records which MLflow run stands for a run."""
    with home.database.unit_of_work() as uow:
        uow.connection.execute(update(runs).where(runs.c.run_id == run_id).values(mlflow_run_id=mlflow_run_id))


def lock_path(home: "Home", run_id: str) -> Path:
    """Returns the file that whoever runs a run keeps locked."""
    return home.run_folder(run_id) / "lock"


def stop_path(home: "Home", run_id: str) -> Path:
    """Returns the file whose presence ends a run's steps that no signal reaches, those in containers."""
    return home.run_folder(run_id) / "stop"


def end_dead_runs(home: "Home") -> list[RunRow]:
    """Records as failed the runs of this machine whose process is gone, and returns them."""
    with home.database.read() as connection:
        dead = [
            run
            for run in unfinished_runs(connection)
            if run.host == platform.node() and not is_locked(lock_path(home, run.run_id))
        ]
    for run in dead:
        shutil.rmtree(home.run_folder(run.run_id) / "request", ignore_errors=True)  # what was asked for is nobody's to keep
        end_run(home, run_id=run.run_id, status="failed", error=_DIED)
    return dead
