"""What a TrainJob is made with: what a cluster's file says of it, and where the home and the image are."""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, ValidationError, model_validator

from infra.cluster_values import (
    Accelerator,
    ClusterValues,
    Cpu,
    Duration,
    EnvironmentName,
    ImageByDigest,
    Memory,
    MountPath,
    Name,
    SubPath,
    Toleration,
    require_no_secret,
)
from infra.errors import BadSettingError

_TORCHRUN: Final = ("PET_", "MASTER_", "WORLD_SIZE", "RANK", "LOCAL_")


class TrainJobSettings(ClusterValues):
    """How a cluster trains: on so many machines, each with so much.

    Attributes:
        runtime: The training runtime of Kubeflow Trainer, of torch; its trainer is the container ``node`` of the job ``node``.
        runtime_kind: Whether it is the whole cluster's, or the namespace's own.
        num_nodes: How many machines.
        processes_per_node: Processes that train on each of them; one an accelerator if not given, or one alone.
        cpu: CPUs of a machine.
        memory: Memory of a machine.
        accelerator: Accelerators of a machine.
        node_selector: Labels that a machine has to have.
        tolerations: Taints of machines that it may run on nevertheless.
        environment: Variables for what trains, such as ``NCCL_SOCKET_IFNAME``.
        attempts: How often it is begun, where machines are lost or pods evicted; each goes on from the last checkpoint.
        start_within: How long it may wait for its machines.
        unreachable_for: How long the cluster's API may fail to answer.
    """

    runtime: Name = "torch-distributed"
    runtime_kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"] = "ClusterTrainingRuntime"
    num_nodes: int = Field(ge=1, le=1000)
    processes_per_node: int | None = Field(default=None, ge=1, le=64)
    cpu: Cpu | None = None
    memory: Memory | None = None
    accelerator: Accelerator | None = None
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    environment: Mapping[EnvironmentName, str] = Field(default_factory=dict)
    attempts: int = Field(default=3, ge=1, le=100)
    start_within: Duration = "30m"
    unreachable_for: Duration = "10m"

    @model_validator(mode="after")
    def _check(self) -> "TrainJobSettings":
        require_no_secret(self.environment)
        for name in self.environment:
            if name.startswith(_TORCHRUN):
                raise ValueError(f"environment: {name} is what the training runtime tells torchrun")
        if self.accelerator is not None and self.num_processes_per_node > self.accelerator.count:
            raise ValueError(
                f"{self.num_processes_per_node} processes_per_node share {self.accelerator.count} accelerators: "
                "each takes one of its own"
            )
        return self

    @property
    def num_processes_per_node(self) -> int:
        """How many processes train on a machine."""
        return self.processes_per_node or (self.accelerator.count if self.accelerator else 1)

    @property
    def num_processes(self) -> int:
        """How many processes train, on all machines together."""
        return self.num_nodes * self.num_processes_per_node


class TrainJobPlan(ClusterValues):
    """All that a step has to know to train on the cluster's machines.

    Attributes:
        job: What the cluster's file says.
        image: What the machines run: the step's own image.
        claim: The PersistentVolumeClaim with the home.
        mount: Where the home is, in the step's container and in theirs.
        sub_path: The home's folder in the volume.
        pull_secrets: Secrets with which the image is pulled.
        deadline_s: Seconds after which the cluster ends it, if nobody has.
    """

    job: TrainJobSettings
    image: ImageByDigest
    claim: Name
    mount: MountPath
    sub_path: SubPath = ""
    pull_secrets: tuple[Name, ...] = ()
    deadline_s: int = Field(ge=1)


def read_plan(text: str) -> TrainJobPlan:
    """Reads a plan as a compiled pipeline has it.

    Raises:
        BadSettingError: It is none.
    """
    try:
        return TrainJobPlan.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadSettingError(
            f"GROUNDSWELL_TRAIN_JOB: {where}: {first['msg']}", hint="compile the pipeline again, with `train_job` in --cluster"
        ) from error
