"""Values of a cluster as Kubernetes writes them: names, amounts, durations, nodes; each refused where it cannot be one."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_SECRET_WORD = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY(?!_ID)", re.ASCII)
_DURATION = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[smhd])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _below_root(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or len(parts) < 2 or ".." in parts:
        raise ValueError("it has to be an absolute path that is not /")
    return path


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError("it has to be a path inside the volume")
    return path


Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,127}$")]
Cpu = Annotated[str, Field(pattern=r"^([0-9]{1,4}(\.[0-9]{1,3})?|[0-9]{1,7}m)$")]
Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}(Ei?|Pi?|Ti?|Gi?|Mi?|Ki?)?$")]
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[smhd]$")]
MountPath = Annotated[str, AfterValidator(_below_root)]
SubPath = Annotated[str, AfterValidator(_inside)]
ImageByDigest = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9./_:-]{0,400}@sha256:[0-9a-f]{64}$")]


class ClusterValues(BaseModel):
    """Base of what is read of a cluster: nothing unknown, and nothing that changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class Accelerator(ClusterValues):
    """A kind of accelerator, as Kubernetes calls the resource, and how many."""

    type: str = Field(pattern=r"^[a-z0-9.-]{1,253}/[A-Za-z0-9._-]{1,63}$")
    count: int = Field(default=1, ge=1, le=64)


class Toleration(ClusterValues):
    """A taint of nodes that a step may run on nevertheless."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


def require_no_secret(names: Iterable[str]) -> None:
    """Refuses environment variables that are secrets by their names.

    Raises:
        ValueError: One is.
    """
    for name in names:
        if _SECRET_WORD.search(name):
            raise ValueError(f"environment: {name} is a secret: name a Secret of the cluster under `secrets`")


def seconds(duration: str) -> int:
    """Returns the seconds of a text such as ``10m``."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(duration)
    return int(match["number"]) * _UNITS[match["unit"]]
