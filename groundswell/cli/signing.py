"""Keeps the ledger's head signed for as long as a server runs: `groundswell audit checkpoint --every`."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Invocation
from groundswell.cli.output import tell_warnings
from groundswell.cli.problem import diagnose, tell_problem
from groundswell.cli.stopping import terminate_as_interrupt

if TYPE_CHECKING:
    from infra.home import Home


_RETRY_S = 5.0  # while the database is away


def keep_signed(invocation: Invocation, *, every_s: float, output: Path | None) -> None:
    """Signs the ledger's head whenever it has grown, until SIGTERM or ctrl-C.

    A home that is not there yet is made. While the database is away, that is said once, and it is tried again every few seconds.

    Args:
        invocation: The call.
        every_s: Seconds between two looks.
        output: A file that always holds the latest note.

    Raises:
        IntegrityError: The ledger does not continue the checkpoint signed last.
        BadSettingError: The home's keys are not those of its database.
    """
    try:
        with terminate_as_interrupt():
            _look_again_and_again(invocation, every_s, output)
    except KeyboardInterrupt:
        return


def _look_again_and_again(invocation: Invocation, every_s: float, output: Path | None) -> None:
    from infra.errors import BackendUnavailableError

    home: Home | None = None
    signed, is_away = -1, False
    while True:
        try:
            home = home or _open(invocation)
            signed = _sign(home, output, signed=signed, as_json=invocation.as_json)
            is_away = False
        except BackendUnavailableError as error:
            if not is_away:
                tell_problem(diagnose(error), as_json=False)
            is_away = True
        time.sleep(min(every_s, _RETRY_S) if is_away else every_s)


def _open(invocation: Invocation) -> "Home":
    home = invocation.open_home(create=True)
    invocation.actor(home)
    return home


def _sign(home: "Home", output: Path | None, *, signed: int, as_json: bool) -> int:
    """Signs the head unless it is the one of a size that is signed already; returns the size that is signed now."""
    from infra.ledger import ledger_size
    from infra.witnesses import sign_and_publish

    with home.database.read() as connection:
        if ledger_size(connection) == signed:
            return signed
    note, missed = sign_and_publish(home)
    tell_warnings(missed)
    if output is not None:
        partial = output.with_name(f".{output.name}.partial")
        partial.write_text(note, encoding="utf-8")
        partial.replace(output)
    _, size, root, *_ = note.split("\n")
    if as_json:
        click.echo(json.dumps({"size": int(size), "root_hash_base64": root, "note": note}))
    else:
        click.echo(f"signed {int(size):,} entries, root {root}")
    return int(size)
