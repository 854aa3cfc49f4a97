"""`groundswell audit`: the ledger, read, verified and signed; see `audit_records` for what leaves it."""

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.audit_records import erase, export
from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import (
    echo_json,
    echo_table,
    format_time,
    printable,
    short_subject,
    shorten,
    shown_path,
    tell_warnings,
    terminal_width,
)
from groundswell.cli.problem import EXIT_INTEGRITY, EXIT_UNAVAILABLE, Problem, tell_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from governance.ledger import LedgerEntry
    from infra.home import Home
    from infra.ledger_verification import VerifyReport
    from infra.witnesses import Testimony


@click.group(cls=Group, name="audit")
def command() -> None:
    """Read, verify, sign and export the ledger; erase what it only commits to."""


@command.command(
    "log",
    examples=(
        "groundswell audit log --action model.registered",
        "groundswell audit log --subject model-version:groundswell-dit/1",
        "groundswell --json audit log --since 100 --limit 50",
    ),
)
@click.option("--action", metavar="NAME", help="Only this action, such as run.completed, or all of one noun, such as run.")
@click.option("--subject", metavar="SUBJECT", help="Only entries about this subject, such as run:ID.")
@click.option("--since", metavar="INDEX", type=click.IntRange(min=0), help="Begin at this entry.  [default: show the newest]")
@click.option(
    "-n", "--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many entries."
)
@pass_invocation
def log(invocation: Invocation, action: str | None, subject: str | None, since: int | None, limit: int) -> None:
    """Print entries of the ledger, oldest first."""
    home = invocation.open_home()
    entries = _entries(home, action=action, subject=subject, since=since, limit=limit)
    if invocation.as_json:
        echo_json({"entries": [_document(entry) for entry in entries]})
        return
    if not entries:
        click.echo("no such entries")
        return
    names = _names(home)
    shown = short_subject if terminal_width() else str
    rows = [
        (
            entry.index,
            format_time(entry.time),
            names.get(entry.actor, entry.actor),
            entry.action,
            shown(entry.subject),
            _details(entry),
        )
        for entry in entries
    ]
    echo_table(("#", "time (UTC)", "actor", "action", "subject", "details"), rows, right=(0,))


@command.command(
    "verify",
    examples=(
        "groundswell audit verify",
        "groundswell audit verify --key log-key-kept-elsewhere.pem --anchor checkpoints/",
    ),
)
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The log's public key, kept where nobody who can write the home can.  [default: the home's own copy]",
)
@click.option(
    "--anchor",
    "anchor_paths",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A signed checkpoint that was kept elsewhere, or a folder of them; may be given more than once.",
)
@pass_invocation
def verify(invocation: Invocation, key_file: Path | None, anchor_paths: tuple[Path, ...]) -> int:
    """Verify the whole ledger, the tables that it speaks of, every signed checkpoint, and what the witnesses keep.

    Each problem is named; the exit code is 4 if there is one, and 6 if all else holds but a witness could not be asked.
    """
    from infra.anchors import read_anchors
    from infra.key_pem import read_log_public_key
    from infra.ledger_verification import verify_ledger
    from infra.log_keys import log_keys
    from infra.witnesses import ask

    home = invocation.open_home(keep_guards=False)
    key = read_log_public_key(key_file) if key_file else home.keys.log_public_key()
    with home.database.read() as connection:
        log = log_keys(connection, key)
    testimonies = ask(home.settings.witnesses, log)
    anchors = [*read_anchors(anchor_paths, log), *(anchor for testimony in testimonies for anchor in testimony.anchors)]
    with task_progress("verifying entries") as progress:
        report = verify_ledger(home.database, key, progress, anchors=anchors)
    away = [testimony for testimony in testimonies if testimony.problem]
    exit_code = EXIT_INTEGRITY if not report.ok else EXIT_UNAVAILABLE if away else 0
    if invocation.as_json:
        echo_json(_verification(report, testimonies, exit_code))
    else:
        _print_verification(report)
    if exit_code:
        tell_problem(_verify_problem(report, away), as_json=False)
    return exit_code


def _verification(report: "VerifyReport", testimonies: "Sequence[Testimony]", exit_code: int) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "num_entries": report.num_entries,
        "num_checkpoints": report.num_checkpoints,
        "num_anchors": report.num_anchors,
        "root_hash": report.root_hash,
        "witnesses": [
            {"location": each.location, "newest_size": each.anchors[-1].size if each.anchors else None, "problem": each.problem}
            for each in testimonies
        ],
        "problems": list(report.problems),
        "notices": list(report.notices),
        "exit_code": exit_code,
    }


def _print_verification(report: "VerifyReport") -> None:
    for problem in report.problems:
        click.echo(f"{click.style('problem:', fg='red')} {printable(problem)}")
    tell_warnings(report.notices)
    if report.ok:
        click.secho("everything verifies", fg="green", bold=True)
    checkpoints = f"{report.num_checkpoints:,} signed checkpoints, {report.num_anchors:,} anchors kept elsewhere"
    click.echo(f"{report.num_entries:,} entries, {checkpoints}, root {report.root_hash}")
    if not report.num_anchors:
        click.echo("no anchor: whoever has this home and its keys could have cut off or rewritten the ledger unseen")


def _verify_problem(report: "VerifyReport", away: "Sequence[Testimony]") -> Problem:
    if report.ok:
        return Problem(
            diagnosis=f"all that is here verifies, but {away[0].problem}",
            hint="verify again when every witness can be asked",
            exit_code=EXIT_UNAVAILABLE,
        )
    count = "1 problem" if len(report.problems) == 1 else f"{len(report.problems)} problems"
    return Problem(
        diagnosis=f"the ledger does not verify: {count}",
        hint="keep this home as evidence, and restore the database from a backup",
        exit_code=EXIT_INTEGRITY,
    )


@command.command(
    "checkpoint", examples=("groundswell audit checkpoint -o checkpoint.txt", "groundswell audit checkpoint --every 60")
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the note to a file.  [default: print it]"
)
@click.option(
    "--every",
    "every_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Stay, look so often, and sign whenever the ledger has grown; until SIGTERM or ctrl-C.",
)
@pass_invocation
def checkpoint(invocation: Invocation, output: Path | None, every_s: float | None) -> None:
    """Sign the ledger's head: a note that fixes every entry so far, to be kept by somebody else.

    The note is a C2SP tlog-checkpoint, signed with the home's log key, and every witness of the settings is given it. With
    --every, a line says what was signed, a home is made where there is none, and a database that is away is waited for.
    """
    if every_s is not None:
        from groundswell.cli.signing import keep_signed

        keep_signed(invocation, every_s=every_s, output=output)
        return
    from infra.witnesses import sign_and_publish

    home = invocation.open_home()
    invocation.actor(home)
    note, missed = sign_and_publish(home)
    tell_warnings(missed)
    if output is not None:
        output.write_text(note, encoding="utf-8")
    if invocation.as_json:
        origin, size, root, *_ = note.split("\n")
        echo_json(
            {
                "origin": origin,
                "size": int(size),
                "root_hash_base64": root,
                "note": note,
                "file": output.absolute() if output else None,
            }
        )
    elif output is not None:
        click.echo(f"checkpoint of {note.splitlines()[1]} entries written to {shown_path(output.absolute())}")
    else:
        click.echo(note, nl=False)


command.add_command(export)
command.add_command(erase)


def ledger_head(home: "Home") -> tuple[int, str]:
    """Returns the ledger's size and root."""
    from infra.ledger import ledger_size, root_hash

    with home.database.read() as connection:
        size = ledger_size(connection)
        return size, root_hash(connection, size).hex()


def _entries(home: "Home", *, action: str | None, subject: str | None, since: int | None, limit: int) -> "list[LedgerEntry]":
    """Returns the first entries from `since` on, or without it the last ones."""
    from infra.ledger import iter_entries

    exact = action if action and "." in action else None
    noun = f"{action}." if action and not exact else ""
    is_filtered = bool(action or subject)
    start = since if since is not None else 0 if is_filtered else -limit
    found: Iterator[LedgerEntry] = (
        entry for entry in iter_entries(home.database, start, action=exact, subject=subject) if entry.action.startswith(noun)
    )
    if since is None:
        return list(deque(found, maxlen=limit))
    return [entry for entry, _ in zip(found, range(limit), strict=False)]


def _names(home: "Home") -> dict[str, str]:
    from infra.identities import list_identities

    return {identity.identity_id: identity.name for identity in list_identities(home.database) if identity.name}


def _document(entry: "LedgerEntry") -> dict[str, Any]:
    return {
        "index": entry.index,
        "time": entry.time,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "details": dict(entry.details),
        "run_id": entry.run_id,
    }


def _details(entry: "LedgerEntry") -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in sorted(entry.details.items()))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {_short(inner)}" for key, inner in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return shorten(str(value), limit=24)
