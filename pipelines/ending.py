"""How a run on a cluster ends in the record: what its exit handler does, where no process of ours has watched it."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from infra.home import Home
from infra.kubeflow import GONE
from infra.run_records import end_run
from infra.runs import StepError, get_run, get_steps
from infra.settings import Settings
from infra.train_jobs.leftovers import end_train_jobs
from infra.witnesses import sign_and_publish
from pipelines.graph import in_order

_STATUSES: Final = {"SUCCEEDED": "completed", "CANCELED": "interrupted", "CANCELLED": "interrupted", "CANCELING": "interrupted"}
_MAX_MESSAGE: Final = 300


def record_run_end(home: str, run_id: str, *, state: str, message: str) -> str:
    """Records the end of a run, and signs the ledger's head; a run that has ended stays as it ended. TrainJobs of its are ended.

    Args:
        home: The home's folder.
        run_id: The run.
        state: How the cluster says that it ended: ``SUCCEEDED``, ``FAILED``, ``CANCELED``; ``GONE`` where it says nothing.
        message: What the cluster says of it.

    Returns:
        The run's status.
    """
    opened = Home.open(Settings.load(Path(home)), create=False)
    try:
        with opened.database.read() as connection:
            run = get_run(connection, run_id)
            problem = _first_problem(connection, run_id, run.pipeline)
        if run.status != "running":
            return run.status
        status = _STATUSES.get(state.upper(), "failed")
        if status == "completed":
            problem = None
        elif problem is None or status == "interrupted":
            problem = _told_by_cluster(opened, status, state, message)
        wall_s = (opened.database.now() - datetime.fromisoformat(run.started)).total_seconds()
        end_run(opened, run_id=run_id, status=status, error=problem, wall_s=max(wall_s, 0.0))
        shutil.rmtree(opened.run_folder(run_id) / "request", ignore_errors=True)  # what was asked for is nobody's to keep
        sign_and_publish(opened)
        return status
    finally:
        end_train_jobs(opened.settings, run_id)
        opened.database.close()


def _first_problem(connection: Connection, run_id: str, pipeline: str) -> StepError | None:
    rows = {step.step: step for step in get_steps(connection, run_id)}
    found = (rows[name] for name in in_order(pipeline, rows))
    return next((step.error for step in found if step.status in {"failed", "interrupted"} and step.error is not None), None)


def _told_by_cluster(home: Home, status: str, state: str, message: str) -> StepError:
    hint = "submit it again: finished steps are reused"
    if status == "interrupted":
        return StepError(diagnosis="the run was stopped on the cluster", hint=hint, exit_code=130)
    said = " ".join(home.settings.redact(message).split())[:_MAX_MESSAGE]
    if state == GONE:
        return StepError(diagnosis=f"the run is gone from its cluster: {said}", hint=hint)
    return StepError(
        diagnosis=f"the cluster ended the run as {state.lower()}{f': {said}' if said else ', and no step says why'}",
        hint=f"often a pod that was evicted or killed for memory; {hint}",
    )
