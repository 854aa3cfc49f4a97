"""Metrics of runs and of the steps of each pipeline's last one."""

import json
from collections import defaultdict
from datetime import datetime

from sqlalchemy import TIMESTAMP, ColumnElement, Connection, Float, Row, case, cast, extract, func, select

from infra.monitoring.catalogue import Families
from infra.tables import runs, steps

ENDED = ("completed", "failed", "interrupted")
STEP_ENDED = ("completed", "reused", "failed", "interrupted")
_BUCKETS_S = (10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)


def seconds(time: str) -> float:
    """Returns an RFC 3339 time as seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp()


def add_runs(connection: Connection, families: Families) -> None:
    """Adds what there is to say of all runs; one aggregate over their rows."""
    columns = runs.c
    took = _took(connection)
    below = [func.sum(case((took <= bound, 1), else_=0)) for bound in _BUCKETS_S]
    query = select(columns.pipeline, columns.status, func.count(), func.max(columns.ended), func.sum(took), *below)
    for pipeline, state, count, last, total, *counts in connection.execute(query.group_by(columns.pipeline, columns.status)):
        families.add("groundswell_runs", count, pipeline, state)
        if state != "completed":
            continue
        families.add("groundswell_run_last_success_timestamp_seconds", seconds(last), pipeline)
        buckets = [(f"{bound:.1f}", float(number)) for bound, number in zip(_BUCKETS_S, counts, strict=True)]
        families.add_histogram("groundswell_run_duration_seconds", [*buckets, ("+Inf", float(count))], float(total), pipeline)


def add_last_runs(connection: Connection, families: Families) -> None:
    """Adds how the run of each pipeline that ended last has ended, and its steps."""
    columns = runs.c
    place = func.row_number().over(partition_by=columns.pipeline, order_by=(columns.ended.desc(), columns.run_id)).label("place")
    ranked = select(columns.run_id, columns.pipeline, columns.status, place).where(columns.ended.is_not(None)).subquery()
    last = connection.execute(select(ranked.c.run_id, ranked.c.pipeline, ranked.c.status).where(ranked.c.place == 1)).all()
    by_run = defaultdict(list)
    for step in connection.execute(select(steps).where(steps.c.run_id.in_([row.run_id for row in last]))):
        by_run[step.run_id].append(step)
    for run in last:
        for state in ENDED:
            families.add("groundswell_run_last_state", float(run.status == state), run.pipeline, state)
        for step in by_run[run.run_id]:
            _add_step(families, run.pipeline, step)


def _add_step(families: Families, pipeline: str, step: Row[tuple[object, ...]]) -> None:
    if step.ended is None:
        return
    for status in STEP_ENDED:
        families.add("groundswell_step_status", float(step.status == status), pipeline, step.step, status)
    families.add("groundswell_step_work_seconds", step.work_s or 0.0, pipeline, step.step)
    families.add("groundswell_step_ended_timestamp_seconds", seconds(step.ended), pipeline, step.step)
    metrics = json.loads(step.record or "{}").get("metrics") or {}
    for name, value in metrics.items():
        families.add("groundswell_step_metric", value, pipeline, step.step, name)


def _took(connection: Connection) -> ColumnElement[float]:
    """Returns how many seconds a run took, as the engine computes it from two texts."""
    columns = runs.c
    if connection.dialect.name == "sqlite":
        return cast((func.julianday(columns.ended) - func.julianday(columns.started)) * 86_400, Float)
    at = TIMESTAMP(timezone=True)
    return cast(extract("epoch", cast(columns.ended, at) - cast(columns.started, at)), Float)
