"""What the commands of the uses have in common: how they are started, what they read, and how they tell their figures."""

import csv
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from groundswell.cli.context import Invocation
from groundswell.cli.output import echo_facts, echo_json, echo_table, heading
from groundswell.cli.problem import EXIT_INTERRUPTED, CommandError, diagnose, tell_problem
from groundswell.uses.figure import Figure, documents, exit_code_of

_MAX_BYTES = 16 << 20

OUT = click.option("--out", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The folder for the files.")
SEED = click.option(
    "--seed", metavar="N", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Where clips start from."
)
TABLE = click.Path(path_type=Path, exists=True, dir_okay=False)


def run(command: click.Command, name: str, argv: Sequence[str] | None = None) -> int:
    """Runs the command of a use; errors are told as the command line tells them.

    Args:
        command: The command.
        name: The module's name below `groundswell.uses`.
        argv: The arguments; those of this process by default.

    Returns:
        The exit code.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        result = command.main(args=args, prog_name=f"python -m groundswell.uses.{name}", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the one catch
        problem = diagnose(error)
        if "--debug" in args and problem.exit_code != EXIT_INTERRUPTED:
            traceback.print_exception(error)
        tell_problem(problem, as_json="--json" in args)
        return problem.exit_code
    return result if isinstance(result, int) else 0


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Reads a CSV table whose every row has these columns; others are left out.

    Raises:
        CommandError: It is no such table, has no rows, or is too large.
    """
    hint = f"a CSV file in UTF-8 with the columns {', '.join(columns)}"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CommandError(f"{path} has more than {_MAX_BYTES >> 20} MiB", hint="cut it into several tables")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise CommandError(f"{path} lacks the column {missing[0]}", hint=hint)
            rows = [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{path} is no table: {error}", hint=hint) from error
    if not rows:
        raise CommandError(f"{path} has no rows", hint=hint)
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes a CSV table whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def tell(
    invocation: Invocation,
    figures: Sequence[Figure],
    *,
    facts: Sequence[tuple[str, object]],
    more: Mapping[str, Any] | None = None,
    results: int = 0,
) -> int:
    """Tells what came out and whether it is accepted.

    Args:
        invocation: How the command was called.
        figures: The acceptance figures.
        facts: Names and values, for a person and for a program.
        more: What a program gets besides.
        results: Exit code of what was wrong already, 0 for nothing.

    Returns:
        The exit code: 5 where a figure is missed, that of `results` where that is not 0.
    """
    code = exit_code_of(figures, results=results)
    if invocation.as_json:
        echo_json({**dict(facts), **(more or {}), "figures": documents(figures), "exit_code": code})
        return code
    echo_facts(facts)
    heading("Acceptance")
    header = ("figure", "measured", "95 % interval", "threshold", "chance", "")
    echo_table(header, [figure.cells() for figure in figures], indent="  ")
    return code
