"""What is to be made of a table of requests, as one step tells the next: rows by number, never what they ask for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components.validate_requests.table import BadRow

PLAN_NAME: Final = "plan.json"


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """A row that can be made: its number, what it is called, and whom it is for."""

    line: int
    request_id: str
    segment: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be made.

    Attributes:
        table_digest: The digest of the folder with the table that was checked.
        shards: The numbers of the rows of each part, by the part's number.
        rows: The rows that can be made.
        bad: Those that cannot.
    """

    table_digest: str
    shards: Mapping[int, tuple[int, ...]]
    rows: tuple[PlannedRow, ...]
    bad: tuple[BadRow, ...]


def read_plan(folder: Path) -> Plan:
    """Reads what `validate_requests` has made."""
    stored: Mapping[str, Any] = json.loads((folder / PLAN_NAME).read_text(encoding="utf-8"))
    return Plan(
        table_digest=str(stored["table_digest"]),
        shards={int(number): tuple(lines) for number, lines in stored["shards"].items()},
        rows=tuple(PlannedRow(**row) for row in stored["rows"]),
        bad=tuple(BadRow(**{**row, "problems": tuple(row["problems"])}) for row in stored["bad"]),
    )


def read_shards(folder: str) -> list[str]:
    """Returns the numbers of the parts of a plan, as Kubeflow passes them on."""
    return [str(number) for number in read_plan(Path(folder)).shards]
