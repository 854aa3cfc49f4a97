"""`groundswell restore`: a home from a backup."""

from pathlib import Path

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import echo_facts, echo_json, shown_path
from groundswell.cli.stopping import terminate_as_interrupt


@click.command(
    cls=Command,
    name="restore",
    examples=(
        "groundswell --home restored restore groundswell-monday.tar --anchor checkpoints/",
        "groundswell restore groundswell-monday.tar --replace",
    ),
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--anchor",
    "anchors",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A signed checkpoint that was kept elsewhere, or a folder of them; may be given more than once.",
)
@click.option("--allow-older", is_flag=True, help="Go on with a backup older than an anchor; the ledger will say so.")
@click.option("--replace", is_flag=True, help="Set a home aside that is there already, as HOME.replaced-TIME (SQLite only).")
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The log's public key, kept where nobody who can write backups can.  [default: the home's own copy, if there is one]",
)
@pass_invocation
def command(
    invocation: Invocation, file: Path, *, anchors: tuple[Path, ...], allow_older: bool, replace: bool, key_file: Path | None
) -> None:
    """Restore a backup FILE into an empty home and the database that its settings name, SQLite or PostgreSQL.

    The file, its checkpoint, and then the ledger with all that it speaks of are verified before anything counts; what is refused
    leaves everything as it was. Exit code 4: something was tampered with, or is another history than an anchor's. Exit code 5:
    the backup is older than an anchor, or the database is not empty. The ledger gets an entry, ledger.restored.
    """
    from infra.backup.restore import RestoreOptions, restore_backup
    from infra.settings import Settings

    options = RestoreOptions(
        anchors=anchors, key=key_file, allow_older=allow_older, replace=replace, identity=invocation.identity
    )
    settings = Settings.load(invocation.home_folder)
    with terminate_as_interrupt(), task_progress("restoring") as progress:
        done = restore_backup(settings, file, options=options, progress=progress)
    header = done.header
    left = {digest: list(package.locations) for digest, package in header.packages.items() if not package.is_included}
    if invocation.as_json:
        echo_json(
            {
                "home": settings.home,
                "database": done.database,
                "engine": done.engine,
                "engine_before": header.engine,
                "ledger_size": header.ledger.size,
                "root_hash": header.ledger.root_hash,
                "entry": done.entry,
                "log": done.log,
                "num_anchors": done.num_anchors,
                "anchored_size": done.older_than.size if done.older_than else None,
                "packages": [digest for digest in header.packages if digest not in left],
                "packages_left": left,
                "replaced": done.replaced,
            }
        )
        return
    click.secho(f"restored to {shown_path(settings.home)}", fg="green", bold=True)
    older = f"; an anchor has {done.older_than.size:,}: what came after is lost" if done.older_than else ""
    echo_facts(
        [
            ("ledger", f"{header.ledger.size:,} entries verify, root {header.ledger.root_hash[:16]}{older}"),
            ("log", f"{done.log}, compared with {done.num_anchors:,} anchors"),
            ("database", f"{done.database}, {sum(header.tables.values()):,} rows (from {header.engine})"),
            ("packages", f"{len(header.packages) - len(left)} restored"),
            ("left", ", ".join(place for places in left.values() for place in places)),
            ("set aside", done.replaced),
            ("entry", f"{done.entry}, ledger.restored"),
        ]
    )
