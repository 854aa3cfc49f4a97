"""What a person sees of a run: a view while it goes on, an outcome when it has ended."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.specs import STEPS
from infra.progress import StepProgress, read_progress, told_parts


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
    views = tuple(_view(run_folder / "progress", name) for name in steps)
    return RunView(run_id=run_id, pipeline=pipeline, elapsed_s=time.time() - started, steps=views)


def _view(folder: Path, name: str) -> StepView:
    """Returns the view of a step; where a run does it part by part, of all parts as one, with what plans and what joins them."""
    own, shares = read_progress(folder / f"{name}.json"), [step for step, spec in STEPS.items() if spec.share_of == name]
    planned = next((found for step in shares if (found := read_progress(folder / f"{step}.json")) is not None), None)
    paths = sorted(path for step in (name, *shares) for path in folder.glob(f"{step}-*.json"))
    parts = [progress for path in paths if (progress := read_progress(path)) is not None]
    of_parts = _view_parts(name, parts, max(len(parts), told_parts(folder, name))) if parts else None
    if own is None:
        view = of_parts or _view_step(name, planned)
        is_open = planned is not None and view.status in {"completed", "reused"}  # until the parts are joined
        return replace(view, status="running") if is_open else view
    joined = _view_step(name, own)
    if of_parts is None:
        return joined
    begun = min(one.started for one in (*parts, planned or own))
    return replace(joined, fields=of_parts.fields, elapsed_s=joined.elapsed_s + max(0.0, own.started - begun))


def _view_parts(name: str, parts: Sequence[StepProgress], num_parts: int) -> StepView:
    views = [_view_step(name, part) for part in parts]
    states = [view.status for view in views]
    state = next((one for one in ("running", "failed", "interrupted") if one in states), "completed")
    if state == "completed":
        state = "running" if len(views) < num_parts else "reused" if set(states) == {"reused"} else "completed"
    begun, until = min(part.started for part in parts), max(part.updated for part in parts)
    problems = dict.fromkeys(view.summary for view in views if view.status in {"failed", "interrupted"})
    return StepView(
        name=name,
        status=state,
        completed=sum(view.completed for view in views),
        total=sum(view.total for view in views),
        fields={"parts": f"{len(states) - states.count('running')}/{num_parts}"},
        elapsed_s=max(0.0, (time.time() if state == "running" else until) - begun),
        summary="; ".join(problems)
        or f"{num_parts:,} {'part' if num_parts == 1 else 'parts'}, {states.count('reused'):,} of them reused",
    )


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
