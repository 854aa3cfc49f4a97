"""What a cluster says of a TrainJob's pods: why they wait, and how they were lost; as far as it may be read."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.train_jobs.api import TrainJobApi

_USUAL: Final = frozenset({"ContainerCreating", "PodInitializing"})
_MAX_REASONS: Final = 2
_MAX_LENGTH: Final = 400


def why_waiting(api: TrainJobApi, name: str) -> str:
    """Returns what a TrainJob's pods wait for, in a line; "" where nothing says so."""
    reasons = [f"pod {_name(pod)}: {reason}" for pod in api.pods(name) for reason in _waits(pod)]
    if not reasons:
        events = (one for one in api.warnings() if f"{_name_of(one)}-".startswith(f"{name}-"))
        reasons = [_said(one) for one in events]
    return _line(reasons)


def why_lost(api: TrainJobApi, name: str) -> str:
    """Returns how a TrainJob's pods ended, in a line; "" where nothing says so."""
    return _line([f"pod {_name(pod)}: {reason}" for pod in api.pods(name) for reason in _losses(pod)])


def _waits(pod: Mapping[str, Any]) -> Iterator[str]:
    status = _part(pod, "status")
    for one in _parts(status, "conditions"):
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            yield _said(one)
    for one in (*_parts(status, "initContainerStatuses"), *_parts(status, "containerStatuses")):
        waiting = _part(_part(one, "state"), "waiting")
        if waiting and waiting.get("reason") not in _USUAL:
            yield _said(waiting)


def _losses(pod: Mapping[str, Any]) -> Iterator[str]:
    status = _part(pod, "status")
    if status.get("reason"):  # such as Evicted or NodeLost
        yield _said(status)
        return
    for one in _parts(status, "conditions"):
        if one.get("type") == "DisruptionTarget" and one.get("status") == "True":
            yield _said(one)
            return
    for one in _parts(status, "containerStatuses"):
        ended = _part(_part(one, "state"), "terminated")
        if ended.get("exitCode"):
            yield f"{ended.get('reason') or 'Error'}, exit code {ended['exitCode']}"


def _said(of: Mapping[str, Any]) -> str:
    return ": ".join(str(of[key]) for key in ("reason", "message") if of.get(key))


def _line(reasons: list[str]) -> str:
    distinct = list(dict.fromkeys(reason for reason in reasons if reason))
    more = f" and {len(distinct) - _MAX_REASONS} more" if len(distinct) > _MAX_REASONS else ""
    return " ".join("; ".join(distinct[:_MAX_REASONS]).split())[:_MAX_LENGTH] + more


def _name(thing: Mapping[str, Any]) -> str:
    return str(_part(thing, "metadata").get("name", ""))


def _name_of(event: Mapping[str, Any]) -> str:
    return str(_part(event, "involvedObject").get("name", ""))


def _part(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, dict) else {}


def _parts(of: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = of.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
