"""Work that TrainJobs do, a runner of it on the test's cluster, and what its machines would have left."""

from pathlib import Path, PurePosixPath
from typing import Any

from infra.train_jobs.api import TrainJobApi, connect
from infra.train_jobs.manifest import TrainJobWork
from infra.train_jobs.plan import TrainJobPlan
from infra.train_jobs.watch import LastWords, TrainJobDone, TrainJobRunner
from tests.kubernetes_server import (
    Cluster,
)

MOUNT, SUB_PATH = PurePosixPath("/groundswell"), PurePosixPath("homes/team")
READS, WRITES = PurePosixPath("work/cd/outputs/latents"), PurePosixPath("work/ab/scratch")
RUN, OTHER_RUN = "6b1f6f0e-5f2d-4c58-9d2c-0d5b3a1f7c11", "00000000-5f2d-4c58-9d2c-0d5b3a1f7c11"
WORK = TrainJobWork(
    run_id=RUN,
    pipeline="training",
    step="train_dit",
    fingerprint="ab" * 32,
    command=("python3", "-m", "torch.distributed.run", "-m", "components.training_worker"),
    folder=lambda name: str(MOUNT / WRITES / "train-job" / name),
    reads=(READS,),
    writes=WRITES,
)
FIRST, SECOND, THIRD = (WORK.name(attempt) for attempt in (1, 2, 3))
JOB: dict[str, Any] = {
    "num_nodes": 2,
    "cpu": "8",
    "memory": "64Gi",
    "accelerator": {"type": "nvidia.com/gpu", "count": 4},
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    "environment": {"NCCL_SOCKET_IFNAME": "eth0"},
}
PLAN = TrainJobPlan.model_validate(
    {
        "job": JOB,
        "image": f"registry.example/groundswell/train-dit@sha256:{'1' * 64}",
        "claim": "groundswell-home",
        "mount": str(MOUNT),
        "sub_path": str(SUB_PATH),
        "pull_secrets": ["registry"],
        "deadline_s": 3600,
    }
)


class Time:
    """A clock that waiting alone moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeShared:
    """What the machines would have left."""

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.relayed: list[str] = []
        self.waited: list[str] = []
        self.results: set[str] = set()
        self.words: dict[str, LastWords] = {}
        self.interrupt_at: int | None = None

    def prepare(self, name: str) -> None:
        self.prepared.append(name)

    def relay(self, name: str) -> None:
        self.relayed.append(name)
        if len(self.relayed) == self.interrupt_at:
            raise KeyboardInterrupt

    def wait(self, line: str) -> None:
        self.waited.append(line)

    def has_result(self, name: str) -> bool:
        return name in self.results

    def last_words(self, name: str) -> LastWords | None:
        return self.words.get(name)


class World:
    """A runner on the cluster, and what it has said."""

    def __init__(self, cluster: Cluster, folder: Path, shared: FakeShared) -> None:
        self.said: list[str] = []
        self.time, self.shared = Time(), shared
        self.kubeconfig = cluster.kubeconfig(folder)
        self.api = TrainJobApi(lambda: connect(str(self.kubeconfig)))

    def run(self, work: TrainJobWork = WORK, plan: TrainJobPlan = PLAN) -> TrainJobDone:
        runner = TrainJobRunner(self.api, plan, say=self.said.append, clock=lambda: self.time.now, sleep=self.time.sleep)
        return runner.run(work, self.shared)


def planned(**job: Any) -> TrainJobPlan:
    return TrainJobPlan.model_validate({**PLAN.model_dump(), "job": {**JOB, **job}})


def is_one_line(error: Any) -> bool:
    return "\n" not in error.diagnosis and bool(error.hint) and "\n" not in error.hint
