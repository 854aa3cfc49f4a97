"""The rows that do not meet an expectation, named one by one in `failed_rows.csv`, however many they are."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from components.validate_data.expectations import Outcome

SHOWN_ROWS = 200
_COLUMNS = ("expectation", "severity", "tolerated", "row", "shard", "path", "value", "beside")
_BESIDE = {"nearest_distance": "nearest", "leak_distance": "leak_nearest"}
"""Which column of the media table names the other picture of a pair."""
_ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True, kw_only=True)
class ShownRows:
    """What a page shows of the rows that fail.

    Attributes:
        rows: The first of them, as they stand in the file.
        num_rows: How many there are in the file.
    """

    rows: Sequence[Mapping[str, str]]
    num_rows: int


def write_failed_rows(path: Path, outcomes: Sequence[Outcome], tables: Mapping[str, pd.DataFrame]) -> ShownRows:
    """Writes every row that does not meet an expectation, those too that the expectation tolerates.

    Args:
        path: Of the CSV file.
        outcomes: What came of the expectations.
        tables: The tables that they are about.
    """
    first: list[Mapping[str, str]] = []
    num_rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for outcome in outcomes:
            about = [cell(outcome.entry.meaning), outcome.entry.severity, "yes" if outcome.success else "no"]
            for row in named_rows(outcome, tables):
                cells = [*about, *map(cell, row.values())]
                writer.writerow(cells)
                num_rows += 1
                if len(first) < SHOWN_ROWS:
                    first.append(dict(zip(_COLUMNS, cells, strict=True)))
    return ShownRows(rows=first, num_rows=num_rows)


def named_rows(outcome: Outcome, tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """Yields the rows that do not meet an expectation, each with where it is and what was found."""
    if not outcome.success and not len(outcome.failed):
        yield {"row": "", "shard": "", "path": "", "value": outcome.observed, "beside": ""}
    table = tables[outcome.entry.table]
    beside = _BESIDE.get(str(outcome.kwargs.get("column")))
    path = "path" if "path" in table else "label"
    for start in range(0, len(outcome.failed), _ROWS_AT_A_TIME):
        places = outcome.failed[start : start + _ROWS_AT_A_TIME]
        part = table.iloc[places]
        shards = part["shard"].tolist() if "shard" in part else [""] * len(part)
        others = _values(part, beside) if beside else [""] * len(part)
        for row, shard, name, value, other in zip(
            places.tolist(), shards, part[path].tolist(), _found(part, outcome.columns), others, strict=True
        ):
            yield {"row": row, "shard": shard, "path": name, "value": value, "beside": other}


def _found(part: pd.DataFrame, columns: Sequence[str]) -> list[Any]:
    """Returns what stands in the columns that an expectation is about: a value, or a list of several."""
    if len(columns) == 1:
        return _values(part, columns[0])
    return [list(values) for values in zip(*(_values(part, column) for column in columns), strict=True)]


def _values(part: pd.DataFrame, column: str) -> list[Any]:
    values = part[column]
    return [None if pd.isna(text) else text for text in values] if values.dtype == "str" else values.tolist()


def cell(value: object) -> str:
    """Returns a value as a cell that no spreadsheet takes for a formula, of a length that people can read."""
    text = str(value).replace("\0", "\\0")[:500]
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} and not isinstance(value, int | float) else text
