"""What is printed: tables and lines for a person, one JSON document for a program.

Everything that came from outside passes `printable`, so that no name or message can steer the terminal.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_COLOURS = {
    "completed": "green",
    "ok": "green",
    "reused": "cyan",
    "running": "yellow",
    "waiting": "bright_black",
    "interrupted": "magenta",
    "warning": "yellow",
    "failed": "red",
    "missing": "red",
    "revoked": "magenta",
}
_MINUTE_S = 60
_HOUR_S = 3600
_SHORT_ID = 8
_SHORT_DIGEST = 12
_ID = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b")


def printable(text: object) -> str:
    """Returns text as one line in which control characters appear as escapes, such as a backslash and ``x1b``."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), str(text))


def colour(text: str, state: str) -> str:
    """Returns text in the colour of a state; click removes it where standard output is no terminal."""
    return click.style(text, fg=_COLOURS[state]) if state in _COLOURS else text


def terminal_width() -> int | None:
    """Returns the width of the terminal on standard output; None where there is none, so that nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def echo_json(document: Mapping[str, Any]) -> None:
    """Prints the one JSON document of a command."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=True, default=_encode))


def echo_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[int] = (),
    state_column: int | None = None,
    indent: str = "",
) -> None:
    """Prints a table on standard output; on a terminal the last column is cut at its edge."""
    paint: Callable[[int, str], str] | None = None
    if state_column is not None:

        def paint(column: int, cell: str) -> str:
            return colour(cell, cell.strip()) if column == state_column else cell

    for line in table_lines(headers, rows, right=right, width=terminal_width(), paint=paint, indent=indent):
        click.echo(line)


def table_lines(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[int] = (),
    width: int | None = None,
    paint: Callable[[int, str], str] | None = None,
    indent: str = "",
) -> list[str]:
    """Returns the lines of a table.

    Args:
        headers: The first line.
        rows: The others; any values.
        right: Columns that are aligned to the right.
        width: Cut lines at this width; None cuts nothing.
        paint: Colours a padded cell, by column.
        indent: What every line begins with.
    """
    cells = [[header.upper() for header in headers]] + [[printable("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for number, row in enumerate(cells):
        padded = [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        padded = _cut(padded, width - len(indent) if width else None)
        padded[-1] = padded[-1].rstrip()
        if number and paint:
            padded = [paint(i, cell) for i, cell in enumerate(padded)]
        elif not number:
            padded = [click.style(cell, bold=True) for cell in padded]
        lines.append(indent + "  ".join(padded).rstrip())
    return lines


def _cut(cells: list[str], width: int | None) -> list[str]:
    """Cuts the last cell so that the line fits."""
    if width is None:
        return cells
    room = width - sum(len(cell) + 2 for cell in cells[:-1])
    last = cells[-1].rstrip()
    if len(last) > room:
        last = last[: room - 1] + "…" if room > 1 else ""
    return [*cells[:-1], last]


def echo_facts(facts: Sequence[tuple[str, object]], *, indent: str = "") -> None:
    """Prints names and values below each other, values aligned; a value of None or "" is left out."""
    shown = [(name, printable(value)) for name, value in facts if value is not None and value != ""]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{indent}{name.ljust(width)}  {value}")


def heading(text: str) -> None:
    """Prints a heading after an empty line."""
    click.echo()
    click.secho(printable(text), bold=True)


def short_subject(subject: str) -> str:
    """Returns a subject with its ids shortened to what still names it: ``dataset:1f2e3d4c5b6a``, ``step:0198aaaa/evaluate``."""
    return _ID.sub(lambda match: match.group()[: _SHORT_ID if "-" in match.group() else _SHORT_DIGEST], subject)


def shorten(text: str, *, limit: int = 60) -> str:
    """Returns text with what is beyond `limit` characters left out."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def format_duration(seconds: float | None) -> str:
    """Returns a duration as people read it: ``0.4 s``, ``12 s``, ``3:07``, ``1:02:03``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}:{whole % _MINUTE_S:02d}"
    return f"{whole // _HOUR_S}:{whole % _HOUR_S // _MINUTE_S:02d}:{whole % _MINUTE_S:02d}"


def format_number(value: float | None) -> str:
    """Returns a figure with four significant digits and without a needless exponent."""
    if value is None:
        return ""
    if isinstance(value, bool) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def format_time(time: str | None) -> str:
    """Returns a recorded UTC time without its fraction: ``2026-01-31 12:00:00``."""
    return time.replace("T", " ")[:19] if time else ""


def format_size(size_bytes: float) -> str:
    """Returns a size in the unit that fits."""
    for unit in ("B", "KB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def short_id(run_id: str) -> str:
    """Returns the beginning of a run's id, enough to name it on the command line in most homes."""
    return run_id[:_SHORT_ID]


def seconds_between(started: str, ended: str | None) -> float | None:
    """Returns the seconds between two recorded times."""
    if not ended:
        return None
    return (parse_time(ended) - parse_time(started)).total_seconds()


def parse_time(time: str) -> datetime:
    """Parses a recorded time."""
    return datetime.fromisoformat(time).astimezone(UTC)


def shown_path(path: Path) -> str:
    """Returns a path as short as it can be named from the working folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _encode(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_whole(output: Path, text: str) -> None:
    """Writes a file whole or not at all, with the folders that it needs."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, output)  # noqa: PTH105 - atomic on purpose
    finally:
        partial.unlink(missing_ok=True)


def tell_warnings(warnings: Iterable[str]) -> None:
    """Prints what went wrong beside the command on standard error, a line each."""
    for warning in warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {printable(warning)}", err=True)
