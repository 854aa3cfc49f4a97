"""`groundswell data withdraw`: items that may no longer be used, and all that goes back to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from governance.withdrawal import items_text
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time, heading, printable, short_id
from groundswell.cli.problem import CommandError

if TYPE_CHECKING:
    from infra.withdrawal_reach import Reach
    from infra.withdrawals import WithdrawalOutcome, WithdrawnFrom

_MAX_SHOWN_ROWS = 20
_MAX_FILE_BYTES = 64 << 20


@click.command(
    cls=Command,
    name="withdraw",
    examples=(
        'groundswell data withdraw data/openmoji --item 3f0a...c1 --reason "the licence ended on 2026-10-31"',
        'groundswell data withdraw 1a2b3c4d5e6f --items-from objections.txt --reason "the people shown object"',
    ),
)
@click.argument("dataset")
@click.option(
    "--item", "items", metavar="SHA256", multiple=True, help="An item, by its SHA-256 in the manifest; may be repeated."
)
@click.option(
    "--items-from", metavar="FILE", type=click.Path(path_type=Path), help="A file with one SHA-256 a line, for many items."
)
@click.option("--reason", metavar="TEXT", required=True, help="Why. The ledger holds only a salted commitment to it.")
@click.option(
    "--without-manifest",
    is_flag=True,
    help="Withdraw although the dataset's folder is gone, so that nothing shows what it held; the ledger says so.",
)
@pass_invocation
def withdraw(
    invocation: Invocation,
    dataset: str,
    items: tuple[str, ...],
    items_from: Path | None,
    reason: str,
    without_manifest: bool,
) -> None:
    """Withdraw items of DATASET, and list everything that was made from it: models, runs and generated files.

    DATASET is a dataset on record: its folder, its digest or the beginning of it, or its subject. An item is withdrawn from every
    other dataset on record that holds the same bytes, too. Nothing is deleted: what is reached is marked, later imports leave the
    items out, and pipelines refuse a dataset that still holds them. It cannot be taken back.
    """
    from infra.lineage_subjects import resolve_subject
    from infra.withdrawal_reach import reached_from
    from infra.withdrawals import WithdrawalRequest
    from infra.withdrawals import withdraw as withdraw_items

    home = invocation.open_home()
    actor = invocation.actor(home)
    named = [*items, *(_read_items(items_from) if items_from else ())]
    subject = resolve_subject(home.database, dataset)
    folder = Path(dataset) if Path(dataset).is_dir() else None
    request = WithdrawalRequest(dataset=subject, items=named, reason=reason, folder=folder, without_manifest=without_manifest)
    with task_progress("withdrawing") as progress:
        outcome = withdraw_items(home.database, request, actor=actor, datasets=home.datasets, progress=progress)
    with home.database.read() as connection:
        reach = reached_from(connection, outcome.datasets)
    if invocation.as_json:
        echo_json(_document(outcome, reach))
    else:
        _print(outcome, reach)


def _read_items(path: Path) -> list[str]:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise CommandError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB", hint="it holds one SHA-256 a line")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text", hint="it holds one SHA-256 a line") from error


def _document(outcome: "WithdrawalOutcome", reach: "Reach") -> dict[str, Any]:
    return {
        **_part(outcome.named),
        "already_withdrawn": [{"sha256": item, "withdrawn": time} for item, time in sorted(outcome.earlier.items())],
        "other_datasets": [_part(other) for other in outcome.others],
        "unseen_datasets": [{"dataset": unseen.subject, "name": unseen.name} for unseen in outcome.unseen],
        "reached": {
            "models": [
                {"model": f"{one.name}/{one.version}", "aliases": list(one.aliases), "root_digest": one.root_digest}
                for one in reach.models
            ],
            "runs": [
                {"run_id": one.run_id, "pipeline": one.pipeline, "status": one.status, "started": one.started}
                for one in reach.runs
            ],
            "media": [
                {"sha256": one.sha256, "file_name": one.file_name, "model": one.model, "run_id": one.run_id}
                for one in reach.media
            ],
        },
    }


def _part(part: "WithdrawnFrom") -> dict[str, Any]:
    return {
        "dataset": f"dataset:{part.dataset}",
        "name": part.name,
        "items": [{"sha256": item, "split": split} for item, split in part.splits.items()],
        "entries": list(part.entries),
    }


def _print(outcome: "WithdrawalOutcome", reach: "Reach") -> None:
    for item, time in _shown(sorted(outcome.earlier.items())):
        click.echo(f"already withdrawn on {format_time(time)} UTC: {item}")
    _tell_left(outcome.earlier, "that were withdrawn before")
    if outcome.named.splits:
        click.secho(f"{items_text(len(outcome.named.splits))} withdrawn", fg="green", bold=True)
    else:
        click.echo("nothing new to withdraw from this dataset")
    entries = ", ".join(map(str, outcome.named.entries))
    echo_facts([("dataset", outcome.named.name), ("digest", outcome.named.dataset), ("ledger entry", entries)])
    _table("Withdrawn", ("sha256", "split"), list(outcome.named.splits.items()))
    others = [(other.name, f"dataset:{other.dataset}", _splits(other.splits)) for other in outcome.others]
    _table("The same items in other datasets, withdrawn there, too", ("name", "dataset", "items"), others)
    unseen = [(one.name, one.subject) for one in outcome.unseen]
    _table("Not looked into, because the folder is gone or was changed", ("name", "dataset"), unseen)
    models = [(f"{one.name}/{one.version}", ", ".join(one.aliases), one.root_digest) for one in reach.models]
    _table("Models reached", ("model", "aliases", "digest"), models)
    runs = [(short_id(one.run_id), one.pipeline, one.status, format_time(one.started)) for one in reach.runs]
    _table("Runs reached", ("run", "pipeline", "status", "started (UTC)"), runs)
    _table(
        "Generated files reached", ("file", "model", "sha256"), [(one.file_name, one.model, one.sha256) for one in reach.media]
    )
    if not (models or runs or reach.media):
        click.echo("\nnothing on record was made from it")


def _table(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        heading(f"{title}: {len(rows):,}")
        echo_table(headers, _shown(rows), indent="  ")
        _tell_left(rows, "in the document that --json prints")


def _shown(rows: Sequence[Any]) -> Sequence[Any]:
    return rows[:_MAX_SHOWN_ROWS]


def _tell_left(rows: Sequence[Any] | Mapping[str, Any], where: str) -> None:
    if len(rows) > _MAX_SHOWN_ROWS:
        click.echo(f"  ... and {len(rows) - _MAX_SHOWN_ROWS:,} more, {where}")


def _splits(splits: Mapping[str, str]) -> str:
    """Returns such as ``3 (2 train, 1 holdout)``."""
    counts = [(split, sum(found == split for found in splits.values())) for split in dict.fromkeys(splits.values())]
    return printable(f"{len(splits):,} ({', '.join(f'{count:,} {split}' for split, count in counts)})")
