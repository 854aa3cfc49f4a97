"""Makes the clips of a use as a table of requests, and looks at what was made: verified, decoded, counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.collect_results.results import MADE, Result
from components.collect_results.results import exit_code_of as batch_exit_code
from components.validate_requests.table import read_requests
from groundswell.cli.live import task_progress
from groundswell.cli.output import tell_warnings
from groundswell.uses.command import write_table
from pipelines.batch import run_batch
from pipelines.generation import GenerateRequest

if TYPE_CHECKING:
    from infra.home import Home

TABLE_NAME = "requests.csv"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a table became.

    Attributes:
        out: The folder.
        results: A result a row, in the table's order.
        exit_code: As of `generate --requests`.
    """

    out: Path
    results: tuple[Result, ...]
    exit_code: int

    @property
    def files(self) -> dict[str, Path]:
        """The files that were made, by request."""
        return {one.request_id: self.out / one.file for one in self.results if one.status == MADE}

    @property
    def refused(self) -> int:
        """How many rows were refused, or cannot be made."""
        return sum(one.status != MADE for one in self.results)


@dataclass(frozen=True, kw_only=True)
class How:
    """How clips are made where a row does not say it.

    Attributes:
        model: ``name@alias`` or ``name/version``.
        seed: The first seed.
        settings: Other fields of `GenerateRequest`.
    """

    model: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


def make(home: "Home", rows: Sequence[Mapping[str, object]], how: How, out: Path, *, actor: str) -> Made:
    """Writes a table of requests beside the files, checks it as `generate --requests` does, and makes it.

    Raises:
        BadDataError: The rows are no table of requests.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / TABLE_NAME, rows)
    good, bad = read_requests(out / TABLE_NAME)
    tell_warnings([f"row {row.line} ({row.request_id or 'no request_id'}): {'; '.join(row.problems)}" for row in bad])
    template = GenerateRequest(model=how.model, seed=how.seed, out=out, **how.settings)
    with task_progress("requests") as progress:
        results = run_batch(home, template, good, bad, actor=actor, progress=progress)
    return Made(out=out, results=tuple(results), exit_code=batch_exit_code({one.status for one in results}))


def is_verified(home: "Home", path: Path) -> bool:
    """Whether `content verify` attributes a file, by proof, and all that is in it holds."""
    from governance.errors import BadRecordError
    from infra.content_verification import verify_content

    try:
        return verify_content(path, home=home).verdict.ok
    except BadRecordError:
        return False


def frames_of(path: Path) -> np.ndarray:
    """Returns the frames of a file as they are: uint8 [frames height width 3].

    Raises:
        BadDataError: It is no whole picture or clip.
    """
    from model_core.data.given_media import read_frames

    return read_frames(path.read_bytes(), name=str(path))
