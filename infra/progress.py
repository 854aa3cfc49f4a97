"""How far a step has come, as a small file that any process can read while the step runs."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

_MIN_INTERVAL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """The state of one step.

    Attributes:
        status: ``running``, ``completed``, ``reused``, ``failed`` or ``interrupted``.
        completed: Units of work done.
        total: Units of work in all; 0 while unknown.
        description: What is being done.
        fields: Figures to show beside the bar.
        started: Seconds since the epoch.
        updated: Seconds since the epoch.
        summary: One line, once the step has ended.
    """

    status: str
    completed: int = 0
    total: int = 0
    description: str = ""
    fields: dict[str, float | str] = field(default_factory=dict)
    started: float = 0.0
    updated: float = 0.0
    summary: str = ""


class ProgressFile:
    """Writes the progress of one step to a file; implements `components.ports.Progress`.

    Args:
        path: The file, replaced atomically.
        clock: Seconds since the epoch.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        now = clock()
        self._state = StepProgress(status="running", started=now, updated=now)
        self._written_at = 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def update(self, completed: int, total: int, description: str = "", **fields: float | str) -> None:
        """Reports progress; writes at most five times a second, and always at the end."""
        now = self._clock()
        self._state = StepProgress(
            status="running",
            completed=completed,
            total=total,
            description=description,
            fields=fields,
            started=self._state.started,
            updated=now,
        )
        if now - self._written_at >= _MIN_INTERVAL_S or completed >= total:
            self._write()

    def end(self, status: str, summary: str) -> None:
        """Writes the final state."""
        state = asdict(self._state) | {"status": status, "summary": summary, "updated": self._clock()}
        self._state = StepProgress(**state)
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self._state)), encoding="utf-8")
        os.replace(temporary, self._path)  # noqa: PTH105 - atomic on purpose
        self._written_at = self._state.updated


def read_progress(path: Path) -> StepProgress | None:
    """Returns the state that was last written, or None before the first."""
    try:
        return StepProgress(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def tell_parts(folder: Path, step: str, num_parts: int) -> None:
    """Says, for whoever looks, in how many parts a run does a step.

    Args:
        folder: The folder of the run's progress files.
        step: The step.
        num_parts: How many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step}.parts").write_text(str(num_parts), encoding="ascii")


def told_parts(folder: Path, step: str) -> int:
    """Returns what `tell_parts` said, or 0 before that."""
    try:
        return int((folder / f"{step}.parts").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
