"""Ends TrainJobs that a run has left, such as one whose step was killed before it could."""

import sys
from contextlib import suppress
from typing import Final

from governance.errors import RefusedError
from infra.errors import InfraError
from infra.settings import Settings
from infra.train_jobs.api import TrainJobApi, connect
from infra.train_jobs.manifest import RUN_LABEL
from infra.train_jobs.status import read_status

ENDS_TRAIN_JOBS: Final = "{}"
"""What an exit handler is told in place of a plan: there may be TrainJobs, and it makes none."""


def end_train_jobs(settings: Settings, run_id: str) -> None:
    """Has a run's TrainJobs end that still do something; one that has ended stays, for its pods' logs.

    Where the cluster does not let it, that is said, and no more: the run's record does not depend on it, and each TrainJob has a
    deadline of its own.

    Args:
        settings: Those of the home; nothing is done where nothing is trained on a cluster.
        run_id: The run.
    """
    if not settings.train_job:
        return
    try:
        api = TrainJobApi(lambda: connect(settings.kubeconfig))
        found = [read_status(one) for one in api.listed(f"{RUN_LABEL}={run_id}")]
    except (InfraError, RefusedError) as error:
        sys.stderr.write(f"TrainJobs of run {run_id} may be left: {error.diagnosis}\n")
        return
    for one in found:
        if not one.has_ended:
            with suppress(InfraError, RefusedError):
                api.delete(one.name)
