"""What a person sees of a run: a view while it goes on, an outcome when it has ended."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.progress import StepProgress, read_progress


@dataclass(frozen=True, kw_only=True)
class StepView:
    """One step of a run. `status` is ``waiting``, ``running``, ``completed``, ``reused``, ``failed`` or ``interrupted``."""

    name: str
    status: str = "waiting"
    completed: int = 0
    total: int = 0
    description: str = ""
    fields: Mapping[str, float | str] = field(default_factory=dict)
    elapsed_s: float = 0.0
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as it goes on."""

    run_id: str
    pipeline: str
    elapsed_s: float
    steps: tuple[StepView, ...]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """A run that has ended.

    Attributes:
        exit_code: 0, or the code of what went wrong; 4 where a cached output did not verify, though it was made anew.
        pictures: Where to look, by what it shows.
        tampered: One line for each cached output that did not verify.
        reused_all: Whether every step was verified and reused.
        overhead_s: Seconds that were not the steps' own work.
        warnings: What went wrong beside the run, a line each.
    """

    run_id: str
    pipeline: str
    status: str
    exit_code: int = 0
    error: str | None = None
    hint: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    model_version: str | None = None
    report: Path | None = None
    pictures: Mapping[str, Path] = field(default_factory=dict)
    steps: tuple[StepView, ...] = ()
    overhead_s: float = 0.0
    wall_s: float = 0.0
    tampered: tuple[str, ...] = ()
    reused_all: bool = False
    mlflow_run_id: str | None = None
    warnings: tuple[str, ...] = ()


def view_run(run_folder: Path, *, run_id: str, pipeline: str, steps: Sequence[str], started: float) -> RunView:
    """Returns how far a run has come, from its progress files.

    Args:
        run_folder: The run's folder in the home.
        run_id: The run's id.
        pipeline: The pipeline's name.
        steps: The steps in order.
        started: When the run started, in seconds since the epoch.
    """
    views = tuple(_view_step(name, read_progress(run_folder / "progress" / f"{name}.json")) for name in steps)
    return RunView(run_id=run_id, pipeline=pipeline, elapsed_s=time.time() - started, steps=views)


def _view_step(name: str, progress: StepProgress | None) -> StepView:
    if progress is None:
        return StepView(name=name)
    until = time.time() if progress.status == "running" else progress.updated
    return StepView(
        name=name,
        status=progress.status,
        completed=progress.completed,
        total=progress.total,
        description=progress.description,
        fields=progress.fields,
        elapsed_s=max(0.0, until - progress.started),
        summary=progress.summary,
    )
