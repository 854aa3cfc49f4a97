"""How commands mark what withdrawals reach."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from governance.withdrawal import items_text
from groundswell.cli.output import echo_table, format_time, heading, printable, shorten

if TYPE_CHECKING:
    from groundswell.cli.context import Invocation
    from infra.home import Home
    from infra.model_versions import ModelVersion
    from model_core.data.dataset import Dataset

_MAX_SHOWN_ROWS = 20


def withdrawals_of(home: "Home", version: "ModelVersion") -> tuple[int, list[dict[str, Any]]]:
    """Returns how many withdrawn items reach a model version, and each withdrawal with its date, dataset and reason."""
    from infra.withdrawal_reach import num_withdrawn, withdrawals_reaching

    with home.database.read() as connection:
        found = withdrawals_reaching(connection, version.subject)
        count = num_withdrawn(connection, found)
    told = [
        {"dataset": f"dataset:{one.dataset}", "withdrawn": one.created, "num_items": one.num_items, "reason": one.reason}
        for one in found
    ]
    return count, told


def warn_of_withdrawals(home: "Home", model: str, *, program: str) -> None:
    """Says in one line on standard error that withdrawn items reach a model that is about to be used.

    Args:
        home: The home.
        model: ``name@alias`` or ``name/version``.
        program: How to call the command line on this home.

    Raises:
        UnknownSubjectError: There is no such model.
    """
    from infra.model_versions import find_version

    version = find_version(home.database, model)
    count, _ = withdrawals_of(home, version)
    if count:
        name = f"{version.name}/{version.version}"
        warning = click.style("warning:", fg="yellow")
        click.echo(
            f"{warning} {items_text(count)} of the data behind {printable(name)} {'was' if count == 1 else 'were'} withdrawn; "
            f"`{program} lineage {printable(name)}` says when and why",
            err=True,
        )


def warn_of_source(home: "Home", sha256: str, *, program: str) -> None:
    """Says in one line on standard error that withdrawn items reach the file that others were made from.

    Args:
        home: The home.
        sha256: SHA-256 of the file.
        program: How to call the command line on this home.
    """
    from infra.withdrawal_reach import num_withdrawn, withdrawals_reaching

    subject = f"media:{sha256}"
    with home.database.read() as connection:
        count = num_withdrawn(connection, withdrawals_reaching(connection, subject))
    if count:
        click.echo(
            f"{click.style('warning:', fg='yellow')} {items_text(count)} of the data behind the file that they were made from "
            f"{'was' if count == 1 else 'were'} withdrawn; `{program} lineage {sha256[:12]}` says when and why",
            err=True,
        )


def withdrawn_rows(invocation: "Invocation", dataset: "Dataset") -> list[dict[str, Any]] | None:
    """Returns the items of a dataset that were withdrawn; None where there is no home to ask."""
    from infra.home import Home
    from infra.settings import Settings
    from infra.withdrawals import when_withdrawn

    settings = Settings.load(invocation.home_folder)
    if not (settings.home / "keys").is_dir():
        return None
    columns = dataset.columns
    with Home.open(settings, create=False).database.read() as connection:
        found = when_withdrawn(connection, set(columns["sha256"]))
    return [
        {
            "sha256": sha256,
            "split": columns["split"][row],
            "path": columns["path"][row],
            "withdrawn": found[sha256][0],
            "reason": found[sha256][1],
        }
        for row, sha256 in enumerate(columns["sha256"])
        if sha256 in found
    ]


def print_withdrawals(withdrawals: Sequence[Mapping[str, Any]]) -> None:
    """Prints the withdrawals that reach a model."""
    if not withdrawals:
        return
    heading("Withdrawn from its data")
    cells = [
        (format_time(one["withdrawn"]), f"{one['num_items']:,}", one["dataset"], shorten(one["reason"] or "(erased)"))
        for one in withdrawals
    ]
    echo_table(("when (UTC)", "items", "dataset", "reason"), cells, right=(1,), indent="  ")


def print_withdrawn_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the withdrawn items of a dataset."""
    if not rows:
        return
    heading(f"Withdrawn items: {len(rows):,}")
    cells = [
        (row["sha256"], row["split"], row["path"], format_time(row["withdrawn"]), shorten(row["reason"] or "(erased)"))
        for row in rows[:_MAX_SHOWN_ROWS]
    ]
    echo_table(("sha256", "split", "path", "withdrawn (UTC)", "reason"), cells, indent="  ")
    if len(rows) > _MAX_SHOWN_ROWS:
        click.echo(f"  ... and {len(rows) - _MAX_SHOWN_ROWS:,} more, in the document that --json prints")
