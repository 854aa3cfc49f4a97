"""Metrics of the steps that run now, from their progress files."""

import time
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Connection, select

from infra.gpu_usage import read_samples, usage_path
from infra.monitoring.catalogue import Families
from infra.progress import StepProgress, read_progress
from infra.tables import runs, steps

_MAX_AGE_S = 120.0
_FIGURES = {"steps_per_s": "groundswell_running_step_rate", "loss": "groundswell_running_step_loss"}


def add_running_steps(families: Families, connection: Connection, *, running: Collection[str], runs_folder: Path) -> None:
    """Adds how far each running step has come.

    Args:
        families: Where to.
        connection: An open connection.
        running: The ids of the runs that have not ended.
        runs_folder: The home's folder of runs.
    """
    query = select(runs.c.run_id, runs.c.pipeline, steps.c.step).join(steps, steps.c.run_id == runs.c.run_id)
    for run_id, pipeline, step in connection.execute(query.where(runs.c.run_id.in_(running), steps.c.status == "running")):
        path = runs_folder / run_id / "progress" / f"{step}.json"
        try:
            progress = read_progress(path)
        except (OSError, ValueError, TypeError):  # nothing that a scrape could mend
            continue
        if progress is not None and progress.status == "running":
            _add(families, progress, path, (pipeline, run_id, step))


def _add(families: Families, progress: StepProgress, path: Path, labels: tuple[str, str, str]) -> None:
    families.add("groundswell_running_step_started_timestamp_seconds", progress.started, *labels)
    families.add("groundswell_running_step_updated_timestamp_seconds", progress.updated, *labels)
    families.add("groundswell_running_step_completed", progress.completed, *labels)
    families.add("groundswell_running_step_total", progress.total, *labels)
    for field, name in _FIGURES.items():
        if isinstance(value := progress.fields.get(field), int | float):
            families.add(name, value, *labels)
    for gpu in read_samples(usage_path(path), newer_than=time.time() - _MAX_AGE_S):
        families.add("groundswell_gpu_utilization_ratio", gpu.utilization, *labels, gpu.gpu)
        families.add("groundswell_gpu_memory_used_bytes", gpu.memory_used_bytes, *labels, gpu.gpu)
        families.add("groundswell_gpu_memory_total_bytes", gpu.memory_total_bytes, *labels, gpu.gpu)
