"""What a run has come to, read back from its record."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from components.collect_results.results import BAD, REFUSED, RESULTS_NAME, SHEET_NAME, exit_code_of
from governance.ledger import parse_entry
from infra.home import Home
from infra.runs import RunRow, StepRow, get_run, get_steps
from infra.tables import ledger_entries
from pipelines.graph import IMPORT_STEP, in_order, shown_steps
from pipelines.views import RunOutcome, StepView, view_run

_INTEGRITY = 4
# Where to look: what it shows, the step that makes it, the output, and the file in it.
_PICTURES = (
    ("data docs", "validate_data", "data_docs", "index.html"),
    ("reconstructions", "encode_latents", "latents", "reconstructions.png"),
    ("codec reconstructions", "train_codec", "codec", "reconstructions.png"),
    ("codec loss curve", "train_codec", "codec", "loss_curve.png"),
    ("loss curve", "train_dit", "model", "loss_curve.png"),
    ("loss curve", "finetune_dit", "model", "loss_curve.png"),
    ("sample grid", "evaluate", "evaluation", "samples.png"),
    ("evaluation", "evaluate", "evaluation", "report.html"),
    ("results", "collect_results", "results", RESULTS_NAME),
    ("contact sheet", "collect_results", "results", SHEET_NAME),
)


def describe_outcome(home: Home, run_id: str) -> RunOutcome:
    """Returns what a run has come to, or has come to so far."""
    with home.database.read() as connection:
        row = get_run(connection, run_id)
        rows = {step.step: step for step in get_steps(connection, run_id)}
        tampered = find_tampered(connection, run_id)
    ordered = [rows[name] for name in in_order(row.pipeline, rows)]
    view = view_run(
        home.run_folder(run_id),
        run_id=run_id,
        pipeline=row.pipeline,
        steps=shown_steps(row.pipeline) if row.is_whole else (IMPORT_STEP, *rows),
        started=_timestamp(row.started),
    )
    integrity = _INTEGRITY if tampered and row.status == "completed" else 0
    report = home.reports / f"{run_id}.html"
    return RunOutcome(
        run_id=run_id,
        pipeline=row.pipeline,
        status=row.status,
        exit_code=row.error.exit_code if row.error else integrity or _results_exit_code(rows.get("collect_results")),
        error=row.error.diagnosis if row.error else None,
        hint=row.error.hint if row.error else "",
        metrics=_metrics(ordered),
        model_version=_model_version(rows.get("register_model")),
        report=report if report.is_file() else None,
        pictures=_pictures(rows),
        steps=view.steps if row.status == "running" else tuple(_ended(step, row.status) for step in view.steps),
        overhead_s=row.overhead_s or 0.0,
        wall_s=_wall_s(row),
        tampered=tampered,
        reused_all=bool(ordered) and all(step.status == "reused" for step in ordered),
        mlflow_run_id=row.mlflow_run_id,
    )


def _ended(step: StepView, status: str) -> StepView:
    """Returns the view of a step of a run that has ended: a process that was killed never said that it has."""
    return replace(step, status=status) if step.status == "running" else step


def _results_exit_code(step: StepRow | None) -> int:
    """Returns 3 where a request was bad, 5 where one was refused, otherwise 0."""
    facts: Mapping[str, Any] = step.record.get("facts", {}) if step else {}
    return exit_code_of({status for status in (BAD, REFUSED) if facts.get(f"num_{status}")})


def find_tampered(connection: Connection, run_id: str) -> tuple[str, ...]:
    """Returns one line for each cached output that did not verify in a run."""
    query = (
        select(ledger_entries.c.entry)
        .where(ledger_entries.c.run_id == run_id, ledger_entries.c.action == "artifact.tampered")
        .order_by(ledger_entries.c.index)
    )
    lines = []
    for (data,) in connection.execute(query):
        entry = parse_entry(bytes(data))
        step = entry.subject.rpartition("/")[2]
        lines += [f"{step}: {problem} (kept in quarantine/{entry.details['kept']})" for problem in entry.details["problems"]]
    return tuple(lines)


def write_report(home: Home, outcome: RunOutcome) -> Path:
    """Writes the lineage report of a finished run, and returns where it is."""
    from governance.lineage_report.html import render_html
    from infra.lineage_report import build_report

    subject = f"run:{outcome.run_id}"
    target = home.reports / f"{outcome.run_id}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(render_html(build_report(home.database, subject, home=home.path)), encoding="utf-8")
    os.replace(partial, target)  # noqa: PTH105 - atomic on purpose
    return target


def _model_version(step: StepRow | None) -> str | None:
    facts: Mapping[str, Any] = step.record.get("facts", {}) if step else {}
    return f"{facts['name']}/{facts['version']}" if "version" in facts else None


def _pictures(rows: Mapping[str, StepRow]) -> dict[str, Path]:
    found = {}
    for title, step, output, name in _PICTURES:
        reference = rows[step].record.get("outputs", {}).get(output) if step in rows else None
        path = Path(reference["location"]) / name if reference else None
        if path is not None and path.is_file():
            found[title] = path
    return found


def _metrics(steps: Sequence[StepRow]) -> dict[str, float]:
    """Returns the figures of all steps, the last step's first: what the model is like before how it came about."""
    found: dict[str, float] = {}
    for step in reversed(steps):
        for name, value in step.record.get("metrics", {}).items():
            found.setdefault(name, value)
    return found


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _wall_s(row: RunRow) -> float:
    return _timestamp(row.ended) - _timestamp(row.started) if row.ended else 0.0
