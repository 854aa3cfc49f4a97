"""The TrainJob that is asked for: names, labels, image, machines, and of the home's volume only what the training needs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from infra.errors import BadSettingError
from infra.train_jobs.plan import TrainJobPlan

GROUP: Final = "trainer.kubeflow.org"
VERSION: Final = "v1alpha1"
RUN_LABEL: Final = "groundswell.io/run"
WORK_LABEL: Final = "groundswell.io/work"
ATTEMPT_LABEL: Final = "groundswell.io/attempt"

_MANAGER = "groundswell.io/training-step"
_TRAINER = "node"  # what Kubeflow Trainer calls the job and the container that train
_GRACE_S = 60  # to write a checkpoint in
_WORK_LENGTH = 32
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, kw_only=True)
class TrainJobWork:
    """What a TrainJob is to do.

    Attributes:
        run_id: The run that it belongs to.
        pipeline: The run's pipeline.
        step: The step that trains.
        fingerprint: The work's.
        command: What every machine runs, but for its last argument.
        folder: Returns that argument by a TrainJob's name: where the machines find what it is to do.
        reads: Folders of the home that it reads, relative to it.
        writes: The folder of the home that it writes, relative to it.
    """

    run_id: str
    pipeline: str
    step: str
    fingerprint: str
    command: tuple[str, ...]
    folder: Callable[[str], str]
    reads: tuple[PurePosixPath, ...]
    writes: PurePosixPath

    @property
    def selector(self) -> str:
        """The labels by which TrainJobs of the same work are found, whichever run began them."""
        return f"{WORK_LABEL}={self.fingerprint[:_WORK_LENGTH]}"

    def name(self, attempt: int) -> str:
        """Returns the TrainJob's name: the same for the same run, work and attempt."""
        step = _NOT_OF_A_NAME.sub("-", self.step)
        return f"{step}-{self.run_id[:8]}-{self.fingerprint[:8]}-{attempt}"


def in_home(path: Path, home: Path) -> PurePosixPath:
    """Returns where a folder is in the home.

    Raises:
        BadSettingError: It is not in it, so that no other machine sees it.
    """
    try:
        return PurePosixPath(path.relative_to(home).as_posix())
    except ValueError:
        raise BadSettingError(
            f"{path} is not in the home {home}, which is all that the machines of a TrainJob share",
            hint="bring it into the home, as `groundswell submit` does",
        ) from None


def train_job(work: TrainJobWork, plan: TrainJobPlan, attempt: int) -> dict[str, Any]:
    """Returns the TrainJob of an attempt at some work."""
    job = plan.job
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": work.name(attempt), "labels": _labels(work, attempt)},
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": job.runtime_kind, "name": job.runtime},
            "activeDeadlineSeconds": plan.deadline_s,
            "trainer": {
                "image": plan.image,
                "command": [*work.command, work.folder(work.name(attempt))],
                "numNodes": job.num_nodes,
                "numProcPerNode": job.num_processes_per_node,
                **({"resourcesPerNode": resources} if (resources := _resources(plan)) else {}),
                **({"env": _environment(job.environment)} if job.environment else {}),
            },
            "runtimePatches": [{"manager": _MANAGER, "trainingRuntimeSpec": {"template": {"spec": _patch(work, plan, attempt)}}}],
        },
    }


def _labels(work: TrainJobWork, attempt: int) -> dict[str, str]:
    return {
        "app.kubernetes.io/managed-by": "groundswell",
        RUN_LABEL: work.run_id,
        WORK_LABEL: work.fingerprint[:_WORK_LENGTH],
        ATTEMPT_LABEL: str(attempt),
        "groundswell.io/pipeline": work.pipeline,
        "groundswell.io/step": work.step,
    }


def _resources(plan: TrainJobPlan) -> dict[str, dict[str, str]]:
    job = plan.job
    amounts = {"cpu": job.cpu, "memory": job.memory}
    if job.accelerator is not None:
        amounts[job.accelerator.type] = str(job.accelerator.count)
    given = {name: amount for name, amount in amounts.items() if amount}
    return {"requests": given, "limits": given} if given else {}


def _environment(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def _patch(work: TrainJobWork, plan: TrainJobPlan, attempt: int) -> dict[str, Any]:
    job = plan.job
    pod: dict[str, Any] = {
        "terminationGracePeriodSeconds": _GRACE_S,
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": plan.claim}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},  # processes of a machine pass gradients through it
        ],
        "containers": [{"name": _TRAINER, "volumeMounts": _mounts(work, plan)}],
    }
    if job.node_selector:
        pod["nodeSelector"] = dict(sorted(job.node_selector.items()))
    if job.tolerations:
        pod["tolerations"] = [one.model_dump(exclude_none=True) for one in job.tolerations]
    if plan.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in plan.pull_secrets]
    template = {"metadata": {"labels": _labels(work, attempt)}, "spec": pod}
    return {"replicatedJobs": [{"name": _TRAINER, "template": {"spec": {"template": template}}}]}


def _mounts(work: TrainJobWork, plan: TrainJobPlan) -> list[dict[str, Any]]:
    """Returns the folders that are seen: what is read, and where it is written; neither keys nor other work."""
    mounts = [_mount(place, plan, read_only=True) for place in work.reads]
    return [*mounts, _mount(work.writes, plan, read_only=False), {"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108


def _mount(place: PurePosixPath, plan: TrainJobPlan, *, read_only: bool) -> dict[str, Any]:
    within = (PurePosixPath(plan.sub_path) / place).as_posix()
    return {"name": "home", "mountPath": (PurePosixPath(plan.mount) / place).as_posix(), "subPath": within, "readOnly": read_only}
