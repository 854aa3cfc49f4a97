"""The pages about runs: the list, and one run with its steps, figures, losses and logs."""

import os
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from governance.lineage_report.plots import loss_curve_of
from governance.lineage_report.plots_svg import draw_curve
from groundswell.console.problems import Refusal
from groundswell.console.rendering import render, seconds_between
from groundswell.console.state import state_of
from infra.home import Home
from infra.logged_losses import logged_losses
from infra.model_versions import list_versions
from infra.runs import RunRow, StepRow, get_run, get_steps, list_runs, pipeline_names
from pipelines.graph import PIPELINES, shown_names, step_of
from pipelines.views import view_run

_PAGE = 50
_STATES = ("running", "completed", "failed", "interrupted")
_RUN_ID = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_TAIL_BYTES = 16 << 10
_MAX_LOGS = 12


def runs_page(request: Request) -> Response:
    """Lists runs, newest first, a page at a time."""
    state = state_of(request)
    state.access.require_reader(request)
    asked = request.query_params
    pipeline, status, before = (asked.get(name) or None for name in ("pipeline", "state", "before"))
    with state.home.database.read() as connection:
        found = list_runs(connection, _PAGE + 1, before=_word(before), pipeline=_word(pipeline), status=_word(status))
        pipelines = pipeline_names(connection)
    values = {
        "runs": [(run, seconds_between(run.started, run.ended)) for run in found[:_PAGE]],
        "older": found[_PAGE - 1].started if len(found) > _PAGE else None,
        "pipelines": pipelines,
        "states": _STATES,
        "pipeline": pipeline,
        "state": status,
        "before": before,
    }
    return render(request, "runs.html.j2", values)


def run_page(request: Request) -> Response:
    """Shows one run; while it goes on the page loads itself again."""
    state = state_of(request)
    state.access.require_reader(request)
    run_id = request.path_params["run_id"]
    if not _RUN_ID.fullmatch(run_id):
        raise Refusal(404, "there is no such run")
    home = state.home
    with home.database.read() as connection:
        run = get_run(connection, run_id)
        steps = get_steps(connection, run.run_id)
        losses = logged_losses(connection, run.run_id)
    curves = [loss_curve_of(points, title="Loss while training", subject=f"run:{run.run_id}") for points in losses.values()]
    values = {
        "run": run,
        "took": seconds_between(run.started, run.ended),
        "steps": _steps(home, run, steps),
        "metrics": [(step.step, name, value) for step in steps for name, value in step.record.get("metrics", {}).items()],
        "made": [
            (name, f"{output['kind']}:{output['digest']}")
            for step in steps
            for name, output in step.record.get("outputs", {}).items()
        ],
        "versions": [one for one in list_versions(home.database) if one.run_id == run.run_id],
        "params": _flat(run.params),
        "curves": [(Markup(draw_curve(one)), one.words) for one in curves if one is not None],  # noqa: S704 - it escapes text
        "logs": _logs(home, run.run_id),
    }
    return render(request, "run.html.j2", values)


def _steps(home: Home, run: RunRow, rows: list[StepRow]) -> list[dict[str, Any]]:
    """Returns the steps in order, those that run now with how far they have come, those to come as waiting."""
    by_name = {row.step: row for row in rows}
    known = PIPELINES.get(run.pipeline, ()) if run.is_whole else ()
    recorded: dict[str, list[str]] = {step: [] for step in known}  # a step may have been done part by part
    for name in by_name:
        recorded.setdefault(step_of(name), []).append(name)
    others = [name for step, parts in recorded.items() if step not in known for name in parts]
    names = (*others, *(name for step in known for name in shown_names(step, recorded[step])))
    started = 0.0
    view = view_run(home.run_folder(run.run_id), run_id=run.run_id, pipeline=run.pipeline, steps=names, started=started)
    found = []
    for step in view.steps:
        row = by_name.get(step.name)
        status = row.status if row else "waiting" if run.status == "running" else "not reached"
        is_running = status == "running" and step.status == "running"
        found.append(
            {
                "name": step.name,
                "status": status,
                "share": step.completed / step.total if is_running and step.total else None,
                "completed": step.completed,
                "total": step.total,
                "doing": step.description if is_running else "",
                "fields": dict(step.fields) if is_running else {},
                "took": step.elapsed_s if is_running else row.work_s if row else None,
                "result": (row.error.diagnosis if row.error else row.record.get("summary", "")) if row else "",
                "hint": row.error.hint if row and row.error else "",
            }
        )
    return found


def _logs(home: Home, run_id: str) -> list[tuple[str, str]]:
    """Returns the end of each log of a run, without secrets; whatever is no regular file in the run's own folder is left out."""
    folder = home.run_folder(run_id) / "logs"
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".log")
    except OSError:
        return []
    tails = ((path.stem, _tail(path)) for path in files[:_MAX_LOGS])
    return [(name, home.settings.redact(tail)) for name, tail in tails if tail]


def _tail(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        try:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", errors="replace")
        except OSError:
            return ""
    return text if size <= _TAIL_BYTES else text.partition("\n")[2]


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [one for name, inner in value.items() for one in _flat(inner, f"{path}.{name}" if path else str(name))]
    return [(path, str(value))]


def _word(text: str | None) -> str | None:
    """Returns a filter as the database can be asked for it; PostgreSQL has no text with NUL."""
    return text.replace("\0", "\ufffd") if text else None
