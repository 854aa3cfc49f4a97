"""`groundswell lineage import`: lineage events of other producers, taken in and marked as such."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import echo_facts, echo_json, printable, shown_path

if TYPE_CHECKING:
    from infra.lineage_import import ImportOutcome


@click.command(
    cls=Command,
    name="import",
    examples=(
        "groundswell lineage import spark-events.ndjson",
        "groundswell --json lineage import airflow.json warehouse.json",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@pass_invocation
def import_(invocation: Invocation, files: tuple[Path, ...]) -> None:
    """Import OpenLineage events that other systems emitted.

    FILE holds one event, a JSON array of events, or one event a line: of runs, and of jobs and datasets (static lineage).
    Each file is taken as a whole or not at all, with one ledger entry that commits to it; what was imported before is left as
    it is. Where an event names a dataset or step of this home it is joined to it in lineage, and everywhere shown as imported
    from its producer: it proves what the producer said, not that it is so.
    """
    from infra.lineage_import import import_events

    home = invocation.open_home()
    actor = invocation.actor(home)
    outcomes = []
    for file in files:
        with task_progress(f"importing {file.name}") as progress:
            outcome = import_events(
                home.database, file, actor=actor, progress=lambda done, total: progress(done, total, "bytes read")
            )
        outcomes.append(_document(file, outcome))
        if not invocation.as_json:
            _print(file, outcome)
    if invocation.as_json:
        echo_json({"imported": outcomes})


def _document(file: Path, outcome: "ImportOutcome") -> dict[str, Any]:
    return {
        "file": file.absolute(),
        "sha256": outcome.sha256,
        "num_events": outcome.num_events,
        "num_new": outcome.num_new,
        "producers": dict(outcome.producers),
        "already_imported": outcome.is_repeated,
        "entry": outcome.index,
    }


def _print(file: Path, outcome: "ImportOutcome") -> None:
    if outcome.is_repeated:
        click.echo(f"{shown_path(file)} was imported before: nothing was changed")
        return
    if outcome.index is None:
        click.echo(f"{shown_path(file)} holds no event that is not on record: nothing was changed")
        return
    click.secho(f"{outcome.num_new:,} event{'s' * (outcome.num_new != 1)} imported", fg="green", bold=True)
    facts = [("file", shown_path(file)), ("SHA-256", outcome.sha256)]
    if known := outcome.num_events - outcome.num_new:
        facts.append(("on record before", f"{known:,}"))
    facts += [("producer", f"{printable(producer)} ({count:,})") for producer, count in outcome.producers.items()]
    echo_facts([*facts, ("ledger entry", str(outcome.index))])
