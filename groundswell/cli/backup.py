"""`groundswell backup`: a home in one file."""

from pathlib import Path

import click

import groundswell
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import echo_facts, echo_json, format_size, shown_path
from groundswell.cli.stopping import terminate_as_interrupt


@click.command(
    cls=Command,
    name="backup",
    examples=(
        "groundswell backup -o groundswell-monday.tar",
        "groundswell backup -o without-keys.tar --without-keys --without-packages",
    ),
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The file to write (0600).")
@click.option("--without-keys", is_flag=True, help="Leave out the private keys; keep them elsewhere, a home needs them.")
@click.option(
    "--without-packages",
    is_flag=True,
    help="Leave registered packages where they are, such as in an object store with backups of its own.",
)
@click.option("--work", is_flag=True, help="Also datasets, codecs and outputs of steps, all of which can be made anew.")
@pass_invocation
def command(invocation: Invocation, output: Path, *, without_keys: bool, without_packages: bool, work: bool) -> None:
    """Write a backup of the home to a file: database, keys, model packages, MLflow's artifacts, lineage reports.

    It is one moment of the whole database, verified as `groundswell audit verify` does, with a signed checkpoint; runs may go on
    meanwhile. Restore it with `groundswell restore`, also into the other kind of database.

    The file holds the PRIVATE KEYS unless told otherwise: who has it can sign in your name. Nothing in it is encrypted.
    """
    from infra.backup.create import BackupOptions, create_backup

    home = invocation.open_home()
    invocation.actor(home)
    options = BackupOptions(with_private_keys=not without_keys, with_packages=not without_packages, with_work=work)
    with terminate_as_interrupt(), task_progress("backing up") as progress:
        made = create_backup(home, output.absolute(), version=groundswell.__version__, options=options, progress=progress)
    header = made.header
    left = [digest for digest, package in header.packages.items() if not package.is_included]
    if invocation.as_json:
        echo_json(
            {
                "file": made.file,
                "size_bytes": made.size_bytes,
                "ledger_size": header.ledger.size,
                "root_hash": header.ledger.root_hash,
                "engine": header.engine,
                "num_tables": len(header.tables),
                "num_rows": sum(header.tables.values()),
                "packages": [digest for digest in header.packages if digest not in left],
                "packages_left": left,
                "has_private_keys": header.has_private_keys,
                "has_work": header.has_work,
            }
        )
        return
    click.secho(f"backup written to {shown_path(made.file)}", fg="green", bold=True)
    echo_facts(
        [
            ("size", format_size(made.size_bytes)),
            ("ledger", f"{header.ledger.size:,} entries, root {header.ledger.root_hash[:16]}"),
            ("database", f"{sum(header.tables.values()):,} rows in {len(header.tables)} tables ({header.engine})"),
            ("packages", f"{len(header.packages) - len(left)} in it, {len(left)} left where they are"),
            ("keys", "PRIVATE KEYS are in it: keep the file as you keep them" if header.has_private_keys else "public ones only"),
            ("artifacts", "" if header.has_artifacts else f"left in {header.artifact_root}"),
        ]
    )
    click.echo(f"\nto be told of a backup that is too old, keep this elsewhere: {invocation.program} audit checkpoint -o FILE")
