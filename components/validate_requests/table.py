"""A table of requests, as CSV: read whole, checked row by row before anything is made."""

import csv
import io
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from components.validate_requests.sources import source_below
from model_core.errors import BadDataError

COLUMNS: Final = ("request_id", "prompt", "label", "segment", "seed", "frames", "from", "strength")
MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 16 << 20
_SEPARATOR: Final = "\x1f"
_HINT: Final = f"columns: {', '.join(COLUMNS)}; the first and one of prompt and label are needed"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request of a table.

    Attributes:
        line: Its number among the rows, from 1, the heading not counted.
        request_id: Whoever asks calls it so.
        prompt: A text, or None.
        label: A category of the model, or None.
        segment: Whom it is for; passed on to the results.
        seed: Where it starts from, or None.
        frames: Frames of the clip, or None.
        source: What it is made from, as a path below the table's folder; or None.
        strength: How far that is left, from 0 to 1; or None.
    """

    line: int
    request_id: str
    prompt: str | None
    label: str | None
    segment: str
    seed: int | None
    frames: int | None
    source: str | None = None
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be made: its number, what it is called, whom it is for, and why."""

    line: int
    request_id: str
    problems: tuple[str, ...]
    segment: str = ""


def read_requests(path: Path) -> tuple[list[Row], list[BadRow]]:
    """Reads a table of requests and checks every row.

    Args:
        path: A CSV file in UTF-8, with or without a byte order mark.

    Returns:
        The rows that can be made, and those that cannot, each in the table's order.

    Raises:
        BadDataError: The file is no such table, or too large.
    """
    texts = read_texts(path)
    if not texts:
        raise BadDataError(f"{path} holds no requests", hint=_HINT)
    problems = _problems(texts, path.parent)
    good = [_row(line, values) for line, values in enumerate(texts, start=1) if line not in problems]
    bad = [_bad_row(line, texts[line - 1], problems[line]) for line in sorted(problems)]
    return good, bad


def read_rows(path: Path, lines: Collection[int] | None = None) -> list[Row]:
    """Reads rows of a table that was checked.

    Args:
        path: The table.
        lines: The numbers of those that can be made; all of them if not given.
    """
    return [_row(line, values) for line, values in enumerate(read_texts(path), start=1) if lines is None or line in lines]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows as a table that `read_rows` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            strength = None if row.strength is None else f"{row.strength:.6f}"
            cells = (row.request_id, row.prompt, row.label, row.segment, row.seed, row.frames, row.source, strength)
            writer.writerow(["" if cell is None else cell for cell in cells])


def read_texts(path: Path) -> list[dict[str, str]]:
    """Reads a table as it stands, a mapping of columns a row, of which none is looked at yet.

    Raises:
        BadDataError: The file is no such table, or too large.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise BadDataError(f"{path} cannot be read: {error.strerror}") from error
    if data is None:
        raise BadDataError(f"{path} has more than {MAX_BYTES >> 20} MiB", hint="cut it into several tables")
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        heading = [name.strip() for name in next(reader, [])]
        _check_heading(path, heading)
        rows: list[dict[str, str]] = []
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(heading):
                raise BadDataError(f"{path}: row {len(rows) + 1} has {len(cells)} cells, the heading {len(heading)}", hint=_HINT)
            if len(rows) == MAX_ROWS:
                raise BadDataError(f"{path} has more than {MAX_ROWS:,} rows", hint="cut it into several tables")
            given = dict(zip(heading, cells, strict=True))
            rows.append({name: given.get(name, "").strip() for name in COLUMNS})
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path} is not UTF-8: byte {error.start:,}", hint="save it as CSV UTF-8") from error
    except csv.Error as error:
        raise BadDataError(f"{path} is no CSV: {error}", hint=_HINT) from error
    return rows


def _check_heading(path: Path, heading: Sequence[str]) -> None:
    unknown = [name for name in heading if name not in COLUMNS]
    twice = sorted({name for name in heading if heading.count(name) > 1})
    if unknown:
        raise BadDataError(f"{path} has a column {unknown[0][:40]!r} that is not known", hint=_HINT)
    if twice:
        raise BadDataError(f"{path} has two columns {twice[0]!r}", hint=_HINT)
    if "request_id" not in heading or not {"prompt", "label"} & set(heading):
        raise BadDataError(f"{path} lacks the column request_id, or both prompt and label", hint=_HINT)


def _problems(texts: Sequence[Mapping[str, str]], folder: Path) -> dict[int, list[str]]:
    """Returns what is wrong with rows, by their numbers: Great Expectations' findings over the suite."""
    import pandas as pd

    from components.validate_data.expectations import run_suite
    from components.validate_data.suite import parse_suite

    table = pd.DataFrame([dict(values) for values in texts], dtype=str)
    table["row"] = range(1, len(texts) + 1)
    table["asked"] = [_named(values, "prompt", "label") or _named(values, "from") or "nothing" for values in texts]
    table["edit"] = [_named(values, "from", "strength") or "none" for values in texts]
    table["source"] = [_source_state(folder, values["from"]) for values in texts]
    table["texts"] = [_SEPARATOR.join(values[name] for name in ("prompt", "label", "segment")) for values in texts]
    suite = parse_suite(files("components.validate_requests").joinpath("requests_suite.yaml").read_text(encoding="utf-8"))
    with TemporaryDirectory() as docs:
        outcomes = run_suite(suite, {"requests": table}, {}, Path(docs))
    found: dict[int, list[str]] = defaultdict(list)
    for outcome in outcomes:
        for row in table["row"].iloc[outcome.failed].tolist():
            found[row].append(outcome.entry.meaning)
    return dict(found)


def _named(values: Mapping[str, str], *names: str) -> str:
    """Returns which of these cells a row has filled, joined by plus signs."""
    return "+".join(name for name in names if values[name])


def _source_state(folder: Path, name: str) -> str:
    try:
        if name:
            source_below(folder, name)
    except BadDataError:
        return "unusable"
    return "usable"


def _bad_row(line: int, values: Mapping[str, str], problems: Sequence[str]) -> BadRow:
    return BadRow(line=line, request_id=values["request_id"], problems=tuple(problems), segment=values["segment"])


def _row(line: int, values: Mapping[str, str]) -> Row:
    return Row(
        line=line,
        request_id=values["request_id"],
        prompt=values["prompt"] or None,
        label=values["label"] or None,
        segment=values["segment"],
        seed=int(values["seed"]) if values["seed"] else None,
        frames=int(values["frames"]) if values["frames"] else None,
        source=values["from"] or None,
        strength=float(values["strength"]) if values["strength"] else None,
    )
