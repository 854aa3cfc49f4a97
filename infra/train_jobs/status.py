"""How far a TrainJob has come, as Kubeflow Trainer writes it into the job's status."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.train_jobs.manifest import ATTEMPT_LABEL, RUN_LABEL

_WORKING: Final = ("ready", "succeeded", "failed")  # a job is active while its pods wait, too
_FOR_GOOD: Final = frozenset({"TrainingRuntimeNotSupported", "DeadlineExceeded"})


@dataclass(frozen=True, kw_only=True)
class TrainJobStatus:
    """One look at a TrainJob.

    Attributes:
        name: Its name.
        run_id: The run that began it.
        attempt: Which of the run's attempts it is.
        has_started: Whether its machines work, or have worked.
        is_complete: Whether it has done its work.
        failure: Reason and message where it has failed; "" else.
        may_be_begun_again: Whether another attempt may fare better.
        suspended: Why it is held back; "" where it is not.
        is_going: Whether somebody has deleted it, and its pods are ending.
    """

    name: str
    run_id: str
    attempt: int
    has_started: bool
    is_complete: bool
    failure: str
    may_be_begun_again: bool
    suspended: str
    is_going: bool

    @property
    def is_waiting(self) -> bool:
        """Whether its machines are still to come, or it is held back."""
        return bool(self.suspended) or not self.has_started

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.is_complete or bool(self.failure)


def read_status(job: Mapping[str, Any]) -> TrainJobStatus:
    """Returns how far a TrainJob has come; what a controller has not yet written counts as not begun."""
    metadata, status = _mapping(job.get("metadata")), _mapping(job.get("status"))
    labels = _mapping(metadata.get("labels"))
    conditions = {str(one.get("type")): one for one in _mappings(status.get("conditions")) if one.get("status") == "True"}
    failed, suspended = conditions.get("Failed"), conditions.get("Suspended")
    number = str(labels.get(ATTEMPT_LABEL, ""))
    return TrainJobStatus(
        name=str(metadata.get("name", "")),
        run_id=str(labels.get(RUN_LABEL, "")),
        attempt=int(number) if number.isdecimal() else 0,
        has_started=any(_count(one, key) for one in _mappings(status.get("jobsStatus")) for key in _WORKING),
        is_complete="Complete" in conditions,
        failure=_said(failed) if failed else "",
        may_be_begun_again=failed is None or failed.get("reason") not in _FOR_GOOD,
        suspended=_said(suspended) if suspended else "",
        is_going="deletionTimestamp" in metadata,
    )


def _said(condition: Mapping[str, Any]) -> str:
    return " ".join(f"{condition.get('reason', '')}: {condition.get('message', '')}".split())[:400]


def _count(of: Mapping[str, Any], key: str) -> int:
    found = of.get(key)
    return found if isinstance(found, int) else 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
