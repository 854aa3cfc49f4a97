"""`groundswell evaluate`: the figures of a registered model, measured again, and how far its samples stand in for real data."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import run_display
from groundswell.cli.metrics import metric_rows
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_duration, heading, shown_path
from groundswell.cli.problem import EXIT_BAD_INPUT, CommandError
from model_core.device import DeviceName

if TYPE_CHECKING:
    from pipelines.evaluation import EvaluationOutcome

_UTILITY = "utility_"


@click.command(
    cls=Command,
    name="evaluate",
    examples=(
        "groundswell evaluate groundswell-dit/1",
        "groundswell evaluate groundswell-dit/1 --utility",
        "groundswell --json evaluate groundswell-dit@production --utility > utility.json",
    ),
)
@click.argument("model")
@click.option(
    "--utility",
    "utility_alone",
    is_flag=True,
    help="Tell only how far samples stand in for real data: a probe learns from the one and is tested on the other.",
)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The dataset that it was trained on, where this home no longer has it.",
)
@click.option(
    "-n",
    "--num-samples",
    metavar="N",
    type=click.IntRange(8, 100_000),
    help="Samples to draw.  [default: as many as before it was registered]",
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(0, 2**31 - 1), help="The first sample's seed.  [default: the one from then]"
)
@click.option("--device", type=click.Choice(get_args(DeviceName)), help="Where to compute.  [default: as then]")
@pass_invocation
def command(
    invocation: Invocation,
    model: str,
    utility_alone: bool,
    data: Path | None,
    num_samples: int | None,
    seed: int | None,
    device: DeviceName | None,
) -> None:
    """Evaluate MODEL, which is name/version or name@alias, on the data that were held back from its training.

    The model's package is verified first. The run is recorded with its lineage; if the same evaluation was done before, its
    output is verified and reused. Figures stand with their 95 % intervals.
    """
    from pipelines.evaluation import evaluate_model

    home = invocation.open_home()
    actor = invocation.actor(home)
    given = {"num_samples": num_samples, "seed": seed, "device": device}
    settings = {name: value for name, value in given.items() if value is not None}
    with run_display(keep=invocation.as_json or not sys.stdout.isatty()) as display:
        outcome = evaluate_model(home, model, settings, data=data, actor=actor, on_view=display)
    if utility_alone and not outcome.report.get("utility"):
        raise CommandError(
            f"the data of {outcome.model_version} have too few labels for a probe to learn",
            hint="two categories or more are needed, and four held-out items",
            exit_code=EXIT_BAD_INPUT,
        )
    metrics = {name: value for name, value in outcome.metrics.items() if not utility_alone or name.startswith(_UTILITY)}
    if invocation.as_json:
        echo_json(_document(outcome, metrics))
        return
    click.secho(f"evaluated in {format_duration(outcome.wall_s)}", fg="green", bold=True)
    report = outcome.folder / "report.html"
    echo_facts([("model", outcome.model_version), ("run", outcome.run_id), ("report", shown_path(report))])
    if utility := outcome.report.get("utility"):
        heading("Utility")
        click.echo(f"  {_sentence(utility)}")
    heading("Metrics")
    echo_table(("metric", "value", "95% interval"), metric_rows(metrics), right=(1,), indent="  ")


def _document(outcome: "EvaluationOutcome", metrics: dict[str, float]) -> dict[str, Any]:
    return {
        "run_id": outcome.run_id,
        "model": outcome.model_version,
        "metrics": metrics,
        "utility": outcome.report.get("utility"),
        "report": outcome.folder / "report.html",
        "wall_s": round(outcome.wall_s, 3),
    }


def _sentence(utility: dict[str, Any]) -> str:
    """Returns the headline for a reader who is no engineer."""
    ratio = utility["ratio"]
    return (
        f"Learning from its samples is worth {ratio['value']:.0%} of learning from as many real items "
        f"({ratio['low']:.0%} to {ratio['high']:.0%})."
    )
