"""`groundswell run`: a pipeline on this machine, from its parameters to what it made."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import run_display
from groundswell.cli.metrics import metric_rows
from groundswell.cli.output import (
    echo_facts,
    echo_json,
    echo_table,
    format_duration,
    heading,
    short_id,
    shown_path,
    tell_warnings,
)
from groundswell.cli.problem import EXIT_INTERRUPTED, CommandError, Problem, tell_problem
from groundswell.cli.stopping import terminate_as_interrupt
from pipelines.graph import PIPELINES

if TYPE_CHECKING:
    from pipelines.views import RunOutcome


@click.command(
    cls=Command,
    name="run",
    examples=(
        "groundswell run training",
        "groundswell run training -S train_dit.num_steps=200 -S data.size=32",
        "groundswell run codec --params params.yaml",
        "groundswell run finetune --base groundswell-dit/1 -S data.source=our-pictures",
        "groundswell run training --runner docker",
        "groundswell run generation -S generation.model=groundswell-dit/1 -S generation.requests=campaign.csv",
        "groundswell --json run training > run.json",
    ),
)
@click.argument("pipeline", metavar="PIPELINE", type=click.Choice(tuple(PIPELINES)))
@click.option(
    "-S",
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a parameter, such as train_dit.num_steps=200. Repeatable.",
)
@click.option("--base", metavar="MODEL", help="For finetune: the registered model to start from, name/version or name@alias.")
@click.option(
    "--params",
    "params_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read parameters from a YAML file; -S overrides it.",
)
@click.option(
    "--runner",
    type=click.Choice(["subprocess", "docker"]),
    default="subprocess",
    show_default=True,
    help="What runs the steps: processes here, or containers in docker or podman.",
)
@pass_invocation
def command(
    invocation: Invocation, pipeline: str, settings: tuple[str, ...], base: str | None, params_file: Path | None, runner: str
) -> int:
    """Run PIPELINE here, training, codec, finetune or generation, with live progress.

    The pipeline finetune learns from a folder of your own pictures, starting at a registered model: docs/FINETUNING.md.

    A step whose code, parameters and inputs are those of an earlier run is not done again: its outputs are verified and
    reused. Interrupted with ctrl-C, a run is recorded as such, and the same command goes on where it stopped.

    generation makes a table of requests, as `groundswell generate --requests` does, two parts of it at a time. The exit code is
    3 if a row is bad, 5 if the guardrails refuse one.
    """
    from pipelines.local import run_pipeline
    from pipelines.params import resolve_params

    if base is not None:
        if pipeline != "finetune":
            raise click.UsageError(f"--base is for the pipeline finetune, not {pipeline}")
        settings = (*settings, f"base={base}")
    params = resolve_params(pipeline, params_file=params_file, settings=list(settings))
    home = invocation.open_home(create=True)
    actor = invocation.actor(home)
    keep_table = invocation.as_json or not sys.stdout.isatty()
    try:
        with terminate_as_interrupt(), run_display(keep=keep_table) as display:
            outcome = run_pipeline(home, pipeline, params, runner=runner, actor=actor, on_view=display)
    except KeyboardInterrupt:
        hint = "run the same command again: finished steps are reused, and training resumes"
        raise CommandError("interrupted", hint=hint, exit_code=EXIT_INTERRUPTED) from None
    if invocation.as_json:
        echo_json(outcome_document(outcome))
    else:
        _print_outcome(outcome, program=invocation.program)
    if outcome.error:
        problem = Problem(diagnosis=outcome.error, hint=outcome.hint, exit_code=outcome.exit_code)
        tell_problem(problem, as_json=False)
    return outcome.exit_code


def outcome_document(outcome: "RunOutcome") -> dict[str, Any]:
    """Returns the JSON document of a run."""
    return {
        "run_id": outcome.run_id,
        "status": outcome.status,
        "exit_code": outcome.exit_code,
        "error": outcome.error,
        "hint": outcome.hint,
        "model_version": outcome.model_version,
        "metrics": dict(outcome.metrics),
        "report": outcome.report,
        "pictures": dict(outcome.pictures),
        "reused_all": outcome.reused_all,
        "tampered": list(outcome.tampered),
        "warnings": list(outcome.warnings),
        "wall_s": round(outcome.wall_s, 3),
        "overhead_s": round(outcome.overhead_s, 3),
        "steps": [
            {"name": step.name, "status": step.status, "elapsed_s": round(step.elapsed_s, 3), "summary": step.summary}
            for step in outcome.steps
        ],
    }


def _print_outcome(outcome: "RunOutcome", *, program: str) -> None:
    _print_headline(outcome)
    click.echo()
    echo_table(
        ("step", "state", "time", "result"),
        [(step.name, step.status, format_duration(step.elapsed_s), step.summary) for step in outcome.steps],
        right=(2,),
        state_column=1,
        indent="  ",
    )
    if outcome.metrics:
        heading("Metrics")
        echo_table(("metric", "value", "95% interval"), metric_rows(outcome.metrics), right=(1,), indent="  ")
    tell_warnings((*outcome.tampered, *outcome.warnings))
    heading("Where to look")
    echo_facts(_places(outcome, program), indent="  ")


def _print_headline(outcome: "RunOutcome") -> None:
    times = f"{format_duration(outcome.wall_s)} in all, {format_duration(outcome.overhead_s)} of it overhead"
    if outcome.reused_all:
        click.secho(f"nothing to do: all {len(outcome.steps)} steps were verified and reused", fg="cyan", bold=True)
    else:
        click.secho(f"run {outcome.status}", fg="green" if outcome.status == "completed" else "red", bold=True)
    facts: list[tuple[str, object]] = [("run", outcome.run_id), ("model", outcome.model_version), ("time", times)]
    echo_facts(facts)


def _places(outcome: "RunOutcome", program: str) -> list[tuple[str, object]]:
    places: list[tuple[str, object]] = []
    if outcome.report:
        places.append(("lineage report", shown_path(outcome.report)))
    places += [(name.replace("_", " "), shown_path(path)) for name, path in outcome.pictures.items()]
    places.append(("the run", f"{program} runs show {short_id(outcome.run_id)}"))
    places.append(("all runs", f"{program} mlflow"))
    if outcome.model_version:
        places.append(("the model", f"{program} models show {outcome.model_version}"))
        places.append(("make pictures", f'{program} generate {outcome.model_version} --prompt "..." --out pictures'))
    return places
