"""`groundswell audit export` and `erase`: a period of the ledger as a file, and texts that have to go."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import echo_facts, echo_json, shown_path

if TYPE_CHECKING:
    from infra.home import Home

_SHOWN = 16


@click.command(
    "export",
    cls=Command,
    examples=(
        "groundswell audit export --since 2026-01-01 --until 2026-03-31 -o first-quarter.zip",
        "groundswell audit export --since 1200 -o entries.zip",
    ),
)
@click.option("--since", metavar="INDEX|DATE", help="The first entry, or the first day or moment (UTC).  [default: the first]")
@click.option("--until", metavar="INDEX|DATE", help="The last entry, or the last day or moment (UTC).  [default: the last]")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The zip file to write.")
@pass_invocation
def export(invocation: Invocation, since: str | None, until: str | None, output: Path) -> None:
    """Write a period of the ledger to one file, with a proof for each entry under a signed checkpoint.

    The file holds entries.jsonl, checkpoint, public_key.pem and SHA256SUMS. A ledger entry says that the period was exported; it
    stands at the end of entries.jsonl. Check the key against one that you have from elsewhere.
    """
    from infra.period_export import export_period

    home = invocation.open_home()
    actor = invocation.actor(home)
    with task_progress("exporting entries") as progress:
        made = export_period(home.database, home.keys, output, since=since, until=until, actor=actor, progress=progress)
    if invocation.as_json:
        echo_json(
            {
                "file": made.file.absolute(),
                "from": made.first,
                "to": made.last,
                "num_entries": made.num_entries,
                "entry": made.entry,
                "checkpoint_size": made.size,
            }
        )
        return
    echo_facts(
        [
            ("entries", f"{made.first:,} to {made.last:,} ({made.num_entries:,})"),
            ("recorded as entry", f"{made.entry:,}"),
            ("checkpoint of", f"{made.size:,} entries"),
            ("written to", shown_path(made.file.absolute())),
        ]
    )


@click.command(
    "erase",
    cls=Command,
    examples=(
        'groundswell audit erase --identity "Ada Lovelace" --reason "request of 3 May"',
        'groundswell audit erase --run 0198aaaa --reason "prompts name a person"',
    ),
)
@click.argument("commitments", metavar="[COMMITMENT]...", nargs=-1)
@click.option("--identity", metavar="IDENTITY", help="The name of this identity, by id or name.")
@click.option("--run", "run_id", metavar="RUN", help="Every text of this run: what was asked for, and reasons.")
@click.option("--reason", metavar="TEXT", required=True, help="Why. It is kept as a commitment itself.")
@pass_invocation
def erase(invocation: Invocation, commitments: tuple[str, ...], identity: str | None, run_id: str | None, reason: str) -> None:
    """Erase texts to which the ledger only commits: names, prompts, reasons; needs an admin.

    The texts and their salts are deleted, and an entry says so; every entry stays and verifies. Lists and reports show "erased"
    from then on, and pages in HOME/reports that show a text are removed. Backups, and exports, bundles and pages that were
    written elsewhere before, are not reached.
    """
    from infra.erasure import erase as erase_texts

    if not (commitments or identity or run_id):
        raise click.UsageError("nothing to erase: name a commitment, --identity or --run")
    home = invocation.open_home()
    actor = invocation.actor(home)
    wanted = _wanted(home, commitments, identity, run_id)
    erased = erase_texts(
        home.database, wanted, reason=reason, actor=actor, must_all_be_kept=bool(commitments), reports=home.reports
    )
    if invocation.as_json:
        echo_json(
            {
                "commitments": erased.commitments,
                "entries": erased.entries,
                "reason_commitment": erased.reason_commitment,
                "removed": [path.absolute() for path in erased.pages],
            }
        )
        return
    for one in erased.commitments:
        click.echo(f"erased: the text of commitment {one:.{_SHOWN}}")
    for page in erased.pages:
        click.echo(f"removed: {shown_path(page)}, which showed it; `groundswell lineage` writes it anew")
    click.echo(f"recorded as entry {', '.join(map(str, erased.entries))}; backups made before still hold what was erased")


def _wanted(home: "Home", commitments: tuple[str, ...], identity: str | None, run_id: str | None) -> list[str]:
    from infra.erasure import commitments_of_identity, commitments_of_run
    from infra.identities import find_identity

    wanted = list(commitments)
    if identity:
        wanted += commitments_of_identity(home.database, find_identity(home.database, identity).identity_id)
    if run_id:
        wanted += commitments_of_run(home.database, run_id)
    return wanted
