"""What steps get on a cluster: resources, nodes, the volume with the home, secrets by name, images by digest; of one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError, model_validator

from components.cluster_training import TRAINERS
from components.specs import STEPS as ALL_STEPS
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
    seconds,
)
from infra.errors import BadSettingError
from infra.train_jobs.plan import TrainJobPlan, TrainJobSettings
from pipelines.graph import PIPELINES, whole_of

_MAX_FILE_BYTES = 1 << 20
_TIMEOUT: Final = "1d"
_HINT: Final = "docs/KUBEFLOW.md has an example"

STEPS: Final = frozenset(step for steps in PIPELINES.values() for step in steps) | {"record_end"}
SHARES: Final = frozenset(step for step, spec in ALL_STEPS.items() if spec.share_of in STEPS)
_LIGHT: Final = frozenset({"plan_encoding"})
"""Shares of a step that need nothing of what it needs."""


class Retries(ClusterValues):
    """How often a step that failed is tried again, and how long is waited before.

    Attributes:
        num: Further attempts; a finished part of the work is not done again.
        backoff: How long is waited before the first of them.
        factor: By how much longer before each further one.
        at_most: The longest wait.
    """

    num: int = Field(default=2, ge=0, le=20)
    backoff: Duration = "30s"
    factor: float = Field(default=2.0, ge=1.0, le=10.0)
    at_most: Duration = "10m"


class StepResources(ClusterValues):
    """What one step gets; what is not given here is what all steps get."""

    cpu: Cpu | None = None
    memory: Memory | None = None
    accelerator: Accelerator | None = None
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = None
    retries: Retries | None = None
    timeout: Duration | None = None

    def over(self, other: "StepResources") -> "StepResources":
        """Returns these settings, and the other's where these say nothing."""
        return StepResources(**{name: getattr(self, name) or getattr(other, name) for name in StepResources.model_fields})


class Home(ClusterValues):
    """The volume with the home.

    Attributes:
        claim: The PersistentVolumeClaim; every step mounts it, so its access mode has to allow that.
        mount: Where it is in each container.
        sub_path: The home's folder in the volume.
    """

    claim: Name
    mount: MountPath = "/groundswell"
    sub_path: SubPath = ""


class SecretReference(ClusterValues):
    """Keys of a Secret of the cluster as environment variables; their values are in no file of ours.

    Attributes:
        secret: The Secret's name.
        environment: Keys of the Secret by the variable that they become.
    """

    secret: Name
    environment: Mapping[EnvironmentName, str] = Field(min_length=1)


class Cluster(ClusterValues):
    """All of it.

    Attributes:
        home: The volume with the home.
        images: The image of each step, by digest.
        secrets: Environment variables out of Secrets of the cluster.
        environment: Environment variables that are none: where the database, MLflow and the object store are.
        pull_secrets: Secrets with which images are pulled.
        parallelism: Parts at a time: of a table that is made, of a dataset that is encoded.
        defaults: What every step gets.
        steps: What single steps get.
        train_job: The machines that train a transformer in place of the step's own pod, which then only watches.
    """

    home: Home
    images: Mapping[str, ImageByDigest] = Field(default_factory=dict)
    secrets: tuple[SecretReference, ...] = ()
    environment: Mapping[EnvironmentName, str] = Field(default_factory=dict)
    pull_secrets: tuple[Name, ...] = ()
    parallelism: int = Field(default=4, ge=1, le=1000)
    defaults: StepResources = StepResources(retries=Retries(), timeout=_TIMEOUT)
    steps: Mapping[str, StepResources] = Field(default_factory=dict)
    train_job: TrainJobSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_volume(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("train_job") and not values.get("home"):
            raise ValueError("train_job: its machines share the volume with the home, and none is named: write `home`")
        return values

    @model_validator(mode="after")
    def _check(self) -> "Cluster":
        for where, names, known in (("images", self.images, STEPS), ("steps", self.steps, STEPS | SHARES)):
            if unknown := sorted({*names} - known):
                raise ValueError(f"{where}: there is no step {unknown[0]!r}")
        require_no_secret(self.environment)
        for step in sorted(TRAINERS) if self.train_job else ():
            if self.resources(step).accelerator is not None:
                raise ValueError(f"steps.{step}.accelerator: the step only watches where there is a `train_job`: write it there")
        return self

    def resources(self, step: str) -> StepResources:
        """Returns what a step gets; one that does a share of another gets what that one does, where nothing is said of it."""
        names = (step,) if step in _LIGHT else (step, whole_of(step))
        found = StepResources()
        for name in names:
            found = found.over(self.steps.get(name, StepResources()))
        return found.over(self.defaults).over(StepResources(retries=Retries(), timeout=_TIMEOUT))

    def by_tag(self, pipeline: str) -> tuple[str, ...]:
        """Returns the steps of a pipeline, its end among them, whose images are not named by digest: what they run can change."""
        return tuple(step for step in (*PIPELINES[pipeline], "record_end") if step not in self.images)

    def train_plan(self, step: str) -> TrainJobPlan | None:
        """Returns what a step's TrainJobs are made with, or None for a step that does its work in its own pod.

        Raises:
            BadSettingError: The step's image is not named, so that its machines would not have its code.
        """
        if self.train_job is None or step not in TRAINERS:
            return None
        if step not in self.images:
            raise BadSettingError(
                f"train_job: the image of {step} is not named, which its machines run", hint=f"name it by digest: images.{step}"
            )
        return TrainJobPlan(
            job=self.train_job,
            image=self.images[step],
            claim=self.home.claim,
            mount=self.home.mount,
            sub_path=self.home.sub_path,
            pull_secrets=self.pull_secrets,
            deadline_s=seconds(self.resources(step).timeout or _TIMEOUT),
        )


def read_cluster(path: Path) -> Cluster:
    """Reads the file with what a cluster's steps get.

    Raises:
        BadSettingError: It cannot be read, a key is not known, or a value does not fit.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise BadSettingError(f"{path} is larger than 1 MiB", hint=_HINT)
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadSettingError(f"{path} cannot be read: {' '.join(str(error).split())}", hint=_HINT) from error
    try:
        return Cluster.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise BadSettingError(f"{path}: {f'{where}: ' if where else ''}{message}", hint=_HINT) from error
