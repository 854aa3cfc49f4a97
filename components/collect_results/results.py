"""What came of requests: a result each, the table of all of them, and a contact sheet."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from governance.errors import RefusedError
from model_core.errors import BadDataError

RESULTS_NAME: Final = "results.csv"
SHEET_NAME: Final = "contact-sheet.png"
MADE, BAD, REFUSED = "made", "bad", "refused"
WITHHELD: Final = "withheld by the guardrails (memorisation): too near an item that the model was trained on"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one row; a column of ``results.csv`` each.

    Attributes:
        request_id: What the table calls it.
        segment: Whom it is for.
        status: `made`, `bad` (the row cannot be made) or `refused` (by the guardrails).
        file: Where the file is, relative to the folder; "" where there is none.
        sha256: SHA-256 of the file.
        seed: What it was made from.
        model: ``name/version``.
        run_id: The run that made it.
        source_sha256: SHA-256 of the file that it was made from, if from one.
        reason: Why it was not made; never the prompt.
    """

    request_id: str
    segment: str
    status: str
    file: str = ""
    sha256: str = ""
    seed: str = ""
    model: str = ""
    run_id: str = ""
    source_sha256: str = ""
    reason: str = ""

    @property
    def may_come_out_otherwise(self) -> bool:
        """Whether the same request may be let through another time, as one over the limit of an hour is."""
        return self.status == REFUSED and self.reason != WITHHELD

    @property
    def grid(self) -> Path:
        """Where the overview of it is, relative to the folder."""
        return Path(self.file).parent / f"{self.run_id[:8]}-grid.png"


def write_results(out: Path, results: Sequence[Result]) -> None:
    """Writes ``results.csv`` whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(Result.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in asdict(result).items()} for result in results)
    partial = out / f"{RESULTS_NAME}.partial"
    partial.write_text(buffer.getvalue(), encoding="utf-8")
    partial.replace(out / RESULTS_NAME)


def _harmless(cell: str) -> str:
    """Keeps a spreadsheet from taking a cell for a formula; only what a bad row says can look like one."""
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell


def write_sheet(out: Path, results: Sequence[Result], folders: Mapping[str, Path] | None = None) -> None:
    """Writes the contact sheet of what was made, if anything was.

    Args:
        out: The folder to write to.
        results: The results.
        folders: Where the files of each request are; in `out` if not given.
    """
    from model_core.data.request_sheet import write_request_sheet

    where = folders or {}
    made = [(one.request_id, where.get(one.request_id, out) / one.grid) for one in results if one.file]
    if made:
        write_request_sheet(made, out / SHEET_NAME)


def exit_code_of(statuses: Collection[str]) -> int:
    """Returns 3 where a request was bad, 5 where one was refused, otherwise 0."""
    return BadDataError.exit_code if BAD in statuses else RefusedError.exit_code if REFUSED in statuses else 0
