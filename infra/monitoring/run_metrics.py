"""Metrics of runs and of the steps of each pipeline's last one."""

import bisect
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from infra.monitoring.catalogue import Families
from infra.tables import ledger_entries, ledger_head, runs, steps

ENDED = ("completed", "failed", "interrupted")
STEP_ENDED = ("completed", "reused", "failed", "interrupted")
_BUCKETS_S = (10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)
_WORST_FIRST = ("failed", "interrupted", "completed", "reused")
_PART = "-"  # a part of a step is called ``generate_batch-0003``
_BATCH = 500
_STARTED = "run.started"
_ACTIONS = (_STARTED, *(f"run.{state}" for state in ENDED))


def seconds(time: str) -> float:
    """Returns an RFC 3339 time as seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp()


@dataclass
class _Durations:
    """How long completed runs took."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS_S) + 1))
    total: float = 0.0

    def add(self, duration_s: float) -> None:
        self.counts[bisect.bisect_left(_BUCKETS_S, duration_s)] += 1
        self.total += duration_s

    def buckets(self) -> list[tuple[str, float]]:
        found, below = [], 0
        for bound, count in zip((*(f"{bound:.1f}" for bound in _BUCKETS_S), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


class RunHistory:
    """What became of all runs. Each is looked at when the ledger says that it has begun or ended, once a process."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._seen = 0  # entries before this index are counted
        self._running: set[str] = set()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._durations: defaultdict[str, _Durations] = defaultdict(_Durations)
        self._last_success: dict[str, str] = {}
        self._last: dict[str, tuple[str, str, str]] = {}  # when it ended, its id, how it ended

    def add_to(self, families: Families, connection: Connection) -> None:
        """Adds what there is to say of runs, and of the steps of the last that ended; one call at a time.

        Args:
            families: Where to.
            connection: A snapshot, not older than that of the last call.
        """
        self._read(connection)
        self._add_runs(families, connection)
        _add_last_runs(families, connection, self._last)

    def running(self) -> list[str]:
        """Returns the ids of the runs that have begun and not ended, as of the last look."""
        return sorted(self._running)

    def _read(self, connection: Connection) -> None:
        size = int(connection.execute(select(ledger_head.c.size)).scalar() or 0)
        if size < self._seen:  # another ledger stands there now: a backup was restored
            self._forget()
        columns = ledger_entries.c
        is_new = columns.action.in_(_ACTIONS) & (columns.index >= self._seen) & (columns.index < size)
        begun, ended = set[str](), set[str]()
        for action, subject in connection.execute(select(columns.action, columns.subject).where(is_new)):
            (begun if action == _STARTED else ended).add(subject.removeprefix("run:"))
        ended &= self._running | begun  # an end that is told twice counts once
        rows = list(_rows(connection, ended))
        # All of them are read by now: an outage halfway leaves nothing that would count twice.
        self._running = (self._running | begun) - ended
        for row in rows:
            self._count(row)
        self._seen = size

    def _count(self, row: Mapping[str, Any]) -> None:
        pipeline, state, ended = row["pipeline"], row["status"], row["ended"] or row["started"]
        self._counts[pipeline, state] += 1
        self._last[pipeline] = max(self._last.get(pipeline, ("", "", "")), (ended, row["run_id"], state))
        if state == "completed":
            self._durations[pipeline].add(seconds(ended) - seconds(row["started"]))
            self._last_success[pipeline] = max(self._last_success.get(pipeline, ""), ended)

    def _add_runs(self, families: Families, connection: Connection) -> None:
        running = Counter(row["pipeline"] for row in _rows(connection, self._running))
        for pipeline in sorted({*running, *(pipeline for pipeline, _ in self._counts)}):
            families.add("groundswell_runs", running[pipeline], pipeline, "running")
            for state in ENDED:
                families.add("groundswell_runs", self._counts[pipeline, state], pipeline, state)
        for pipeline, durations in sorted(self._durations.items()):
            families.add_histogram("groundswell_run_duration_seconds", durations.buckets(), durations.total, pipeline)
        for pipeline, ended in sorted(self._last_success.items()):
            families.add("groundswell_run_last_success_timestamp_seconds", seconds(ended), pipeline)


def _rows(connection: Connection, run_ids: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    """Yields the rows of some runs, without what is long in them."""
    columns = runs.c
    wanted = sorted(run_ids)
    for start in range(0, len(wanted), _BATCH):
        query = select(columns.run_id, columns.pipeline, columns.status, columns.started, columns.ended)
        found = connection.execute(query.where(columns.run_id.in_(wanted[start : start + _BATCH])))
        yield from (dict(row) for row in found.mappings())


def _add_last_runs(families: Families, connection: Connection, last: Mapping[str, tuple[str, str, str]]) -> None:
    by_run: defaultdict[str, defaultdict[str, list[Row[Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in connection.execute(select(steps).where(steps.c.run_id.in_([run_id for _, run_id, _ in last.values()]))):
        by_run[row.run_id][row.step.partition(_PART)[0]].append(row)
    for pipeline, (_, run_id, ending) in sorted(last.items()):
        for state in ENDED:
            families.add("groundswell_run_last_state", float(ending == state), pipeline, state)
        for step, parts in sorted(by_run[run_id].items()):
            _add_step(families, pipeline, step, parts)


def _add_step(families: Families, pipeline: str, step: str, parts: Sequence[Row[Any]]) -> None:
    """Adds a step; one that was done part by part as a whole, which has failed where a part of it has."""
    ended = [part.ended for part in parts if part.ended is not None]
    if not ended:
        return
    ending = min((part.status for part in parts if part.status in _WORST_FIRST), key=_WORST_FIRST.index, default="")
    for status in STEP_ENDED:
        families.add("groundswell_step_status", float(status == ending), pipeline, step, status)
    families.add("groundswell_step_work_seconds", sum(part.work_s or 0.0 for part in parts), pipeline, step)
    families.add("groundswell_step_ended_timestamp_seconds", seconds(max(ended)), pipeline, step)
    if len(parts) == 1:
        for name, value in (json.loads(parts[0].record or "{}").get("metrics") or {}).items():
            families.add("groundswell_step_metric", value, pipeline, step, name)
