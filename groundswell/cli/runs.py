"""`groundswell runs`: the runs of a home."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.comparing import compare, flatten, show_value
from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.live import run_display
from groundswell.cli.metrics import metric_rows
from groundswell.cli.output import (
    echo_facts,
    echo_json,
    echo_table,
    format_duration,
    format_time,
    heading,
    parse_time,
    seconds_between,
    short_id,
)
from groundswell.cli.problem import EXIT_BAD_INPUT, EXIT_UNEXPECTED, CommandError, Problem, tell_problem
from groundswell.cli.remote import server_options
from infra.locking import is_locked
from pipelines.graph import PIPELINES, step_of
from pipelines.views import view_run

if TYPE_CHECKING:
    from infra.home import Home
    from infra.runs import RunRow, StepRow

_WATCH_INTERVAL_S = 0.5
_NUM_RECENT = 20


@click.group(cls=Group, name="runs")
def command() -> None:
    """List, show, watch, end and compare runs."""


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many of the newest to list.")
@pass_invocation
def list_(invocation: Invocation, limit: int) -> None:
    """List runs, newest first: those of this machine, and those that were submitted to a cluster."""
    from infra.runs import list_runs

    home = invocation.open_home()
    with home.database.read() as connection:
        runs = list_runs(connection, limit)
    if invocation.as_json:
        echo_json({"runs": [run_document(run) for run in runs]})
        return
    if not runs:
        click.echo("no runs yet: `groundswell run training` makes the first")
        return
    rows = [
        (
            short_id(run.run_id),
            run.pipeline,
            run.status,
            run.where,
            format_time(run.started),
            format_duration(seconds_between(run.started, run.ended)),
            _remark_on(home, run),
        )
        for run in runs
    ]
    echo_table(("run", "pipeline", "state", "where", "started (UTC)", "time", ""), rows, right=(5,), state_column=2)


@command.command("show")
@click.argument("run_id", metavar="RUN")
@pass_invocation
def show(invocation: Invocation, run_id: str) -> None:
    """Show a run: its steps, metrics, parameters and what it made.

    RUN is a run's id or its first characters, at least six.
    """
    from infra.runs import get_run, get_steps

    home = invocation.open_home()
    with home.database.read() as connection:
        run = get_run(connection, run_id)
        steps = get_steps(connection, run.run_id)
    if invocation.as_json:
        echo_json(
            {
                **run_document(run),
                "params": run.params,
                "metrics": run_metrics(steps),
                "steps": [_step_document(step) for step in steps],
            }
        )
        return
    echo_facts(
        [
            ("run", run.run_id),
            ("pipeline", run.pipeline),
            ("state", run.status),
            ("where", run.where),
            ("error", run.error.diagnosis if run.error else ""),
            ("hint", run.error.hint if run.error else ""),
            ("started", f"{format_time(run.started)} UTC"),
            ("time", format_duration(seconds_between(run.started, run.ended))),
            ("overhead", format_duration(run.overhead_s)),
            ("by", run.actor),
            ("folder", home.run_folder(run.run_id)),
        ]
    )
    heading("Steps")
    rows = [(step.step, step.status, format_duration(step.work_s), _remark(step)) for step in steps]
    echo_table(("step", "state", "work", "result"), rows, right=(2,), state_column=1, indent="  ")
    if metrics := run_metrics(steps):
        heading("Metrics")
        echo_table(("metric", "value", "95% interval"), metric_rows(metrics), right=(1,), indent="  ")
    if run.params:
        heading("Parameters")
        echo_facts([(name, show_value(value)) for name, value in flatten(run.params).items()], indent="  ")
    if made := [
        (name, f"{output['kind']}:{output['digest']}")
        for step in steps
        for name, output in step.record.get("outputs", {}).items()
    ]:
        heading("Made or reused")
        echo_facts([(name, subject) for name, subject in made], indent="  ")


@command.command("watch")
@click.argument("run_id", metavar="[RUN]", required=False)
@server_options(required=False)
@pass_invocation
def watch(invocation: Invocation, run_id: str | None, host: str | None, namespace: str, token_file: Path | None) -> int:
    """Follow a run until it ends; without RUN the one that is running.

    With --host a run that was submitted to a cluster is followed there, and its end recorded where its exit handler could not.
    Ends with exit code 0 if the run completed, otherwise with the run's own.
    """
    from infra.runs import get_run

    home = invocation.open_home()
    run = _find_watched(home, run_id)
    if host is not None:
        run = _watched_there(home, run, host, namespace=namespace, token_file=token_file)
    steps = _step_names(home, run)
    started = parse_time(run.started).timestamp()
    with run_display(keep=True) as display:
        while True:
            display(view_run(home.run_folder(run.run_id), run_id=run.run_id, pipeline=run.pipeline, steps=steps, started=started))
            if run.status != "running":
                break
            if not _is_alive(home, run):
                raise CommandError(
                    f"the process of run {short_id(run.run_id)} is gone",
                    hint="start the same run again: finished steps are reused",
                    exit_code=EXIT_UNEXPECTED,
                )
            time.sleep(_WATCH_INTERVAL_S)
            with home.database.read() as connection:
                run = get_run(connection, run.run_id)
    if invocation.as_json:
        echo_json(run_document(run))
    else:
        click.echo(f"run {run.run_id} {run.status}")
    if run.error is None:
        return 0
    tell_problem(Problem(diagnosis=run.error.diagnosis, hint=run.error.hint, exit_code=run.error.exit_code), as_json=False)
    return run.error.exit_code


def _watched_there(home: "Home", run: "RunRow", host: str, *, namespace: str, token_file: Path | None) -> "RunRow":
    """Follows a run on its cluster, and returns what is on record at its end."""
    from infra.kubeflow import KubeflowServer
    from infra.runs import get_run
    from pipelines.submitting import follow, submitted

    server = KubeflowServer(host, namespace=namespace, token_file=token_file)
    known = submitted(home, run.run_id, server)
    if run.status == "running":
        with run_display(keep=True) as display:
            follow(home, known, server, on_view=display)
    with home.database.read() as connection:
        return get_run(connection, run.run_id)


@command.command("end")
@click.argument("run_id", metavar="RUN")
@pass_invocation
def end(invocation: Invocation, run_id: str) -> int:
    """Record that a run on a cluster has failed, where the cluster is gone and nothing else can.

    A cluster that is there records the end of its runs itself; where it could not, `groundswell runs watch RUN --host URL` does.
    Nothing is stopped: should the run go on after all, its steps' outputs are kept, and its end is not recorded again.
    """
    from infra.kubeflow import GONE
    from infra.runs import REMOTE_RUNNER, get_run
    from pipelines.ending import record_run_end

    home = invocation.open_home()
    actor = invocation.actor(home)
    with home.database.read() as connection:
        run = get_run(connection, run_id)
    if run.runner != REMOTE_RUNNER or run.status != "running":
        why = f"it is {run.status}" if run.status != "running" else "it runs on no cluster"
        hint = "`groundswell runs list` shows where runs are; the next run here ends those that died here"
        raise CommandError(f"run {short_id(run.run_id)} cannot be given up: {why}", hint=hint, exit_code=EXIT_BAD_INPUT)
    status = record_run_end(str(home.path), run.run_id, state=GONE, message=f"given up by {actor}")
    if invocation.as_json:
        echo_json({"run_id": run.run_id, "status": status})
    else:
        click.echo(f"run {run.run_id} {status}")
    return 0


def _find_watched(home: "Home", run_id: str | None) -> "RunRow":
    from infra.runs import get_run, list_runs

    with home.database.read() as connection:
        if run_id is not None:
            return get_run(connection, run_id)
        running = [run for run in list_runs(connection, _NUM_RECENT) if run.status == "running"]
    alive = [run for run in running if _is_alive(home, run)]
    if not alive:
        raise CommandError("no run is running in this home", hint="`groundswell runs list` shows those that have ended")
    return alive[0]


def _remark_on(home: "Home", run: "RunRow") -> str:
    if run.status == "running" and not _is_alive(home, run):
        return "its process is gone; the next run records it as failed"
    return run.error.diagnosis if run.error else ""


def _is_alive(home: "Home", run: "RunRow") -> bool:
    """Returns whether a run that is recorded as running still is; of another machine's runs the record is all there is."""
    from infra.run_records import lock_path

    return run.status == "running" and (run.host != platform.node() or is_locked(lock_path(home, run.run_id)))


def _step_names(home: "Home", run: "RunRow") -> tuple[str, ...]:
    """Returns the steps that a run has, the import of its data before them."""
    folder = home.run_folder(run.run_id) / "progress"
    known = PIPELINES.get(run.pipeline, ()) if run.is_whole else ()
    others = sorted(path.stem for path in folder.glob("*.json") if step_of(path.stem) not in known)
    return (*others, *known)


@command.command("compare")
@click.argument("run_ids", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--all", "show_all", is_flag=True, help="Show parameters that are equal too.")
@pass_invocation
def compare_(invocation: Invocation, run_ids: tuple[str, ...], show_all: bool) -> None:
    """Compare metrics, parameters and input data of two or more runs side by side."""
    from infra.runs import get_run, get_steps

    if len(run_ids) < 2:
        raise click.UsageError("name at least two runs to compare")
    home = invocation.open_home()
    with home.database.read() as connection:
        runs = [get_run(connection, run_id) for run_id in run_ids]
        steps = [get_steps(connection, run.run_id) for run in runs]
    names = (
        [short_id(run.run_id) for run in runs]
        if len({short_id(run.run_id) for run in runs}) == len(runs)
        else [run.run_id for run in runs]
    )
    metrics = compare(names, [run_metrics(of_run) for of_run in steps])
    params = compare(names, [flatten(run.params) for run in runs])
    outputs = compare(names, [_digests(of_run) for of_run in steps])
    if invocation.as_json:
        echo_json(
            {
                "runs": [run.run_id for run in runs],
                "metrics": metrics.to_dict(),
                "params": params.to_dict(),
                "artifacts": outputs.to_dict(),
            }
        )
        return
    columns = (*names, "change") if len(names) == 2 else tuple(names)
    heading("Metrics")
    echo_table(("metric", *columns), metrics.rows(), right=range(1, len(columns) + 1), indent="  ")
    heading("Parameters" if show_all else "Parameters that differ")
    rows = [row[: len(names) + 1] for row in params.rows(only_differing=not show_all)]
    if rows:
        echo_table(("parameter", *names), rows, indent="  ")
    else:
        click.echo("  none")
    heading("Artifacts")
    rows = [
        (name, *[str(digest)[:12] if digest else "-" for digest in row], "" if name in outputs.differing else "same")
        for name, row in outputs.values.items()
    ]
    echo_table(("artifact", *names, ""), rows, indent="  ")


def run_document(run: "RunRow") -> dict[str, Any]:
    """Returns a run as it appears in a JSON document."""
    return {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "status": run.status,
        "runner": run.runner,
        "host": run.host,
        "actor": run.actor,
        "started": run.started,
        "ended": run.ended,
        "error": run.error.diagnosis if run.error else None,
        "hint": run.error.hint if run.error else "",
        "overhead_s": run.overhead_s,
        "mlflow_run_id": run.mlflow_run_id,
    }


def _step_document(step: "StepRow") -> dict[str, Any]:
    return {
        "name": step.step,
        "status": step.status,
        "fingerprint": step.fingerprint,
        "started": step.started,
        "ended": step.ended,
        "work_s": step.work_s,
        "error": step.error.diagnosis if step.error else None,
        "record": step.record,
        "mlflow_run_id": step.mlflow_run_id,
    }


def run_metrics(steps: "Sequence[StepRow]") -> dict[str, float]:
    """Returns the metrics of a run; a name that two steps use carries the step's name."""
    named = [(step.step, name, value) for step in steps for name, value in step.record.get("metrics", {}).items()]
    counts: dict[str, int] = {}
    for _, name, _ in named:
        counts[name] = counts.get(name, 0) + 1
    return {name if counts[name] == 1 else f"{step}.{name}": value for step, name, value in named}


def _digests(steps: "Sequence[StepRow]") -> dict[str, str]:
    found: dict[str, str] = {}
    for step in steps:
        for place in ("inputs", "outputs"):
            found |= {name: reference["digest"] for name, reference in step.record.get(place, {}).items() if name not in found}
    return found


def _remark(step: "StepRow") -> str:
    return step.error.diagnosis if step.error else str(step.record.get("summary", ""))
