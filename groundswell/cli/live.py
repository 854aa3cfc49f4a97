"""How far a run has come, on standard error: a table that redraws itself on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from groundswell.cli.output import format_duration, format_number, printable, short_id

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from pipelines.views import RunView, StepView

_PLAIN_INTERVAL_S = 10.0
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINNER_ASCII = "|/-\\"
_GLYPHS = {"waiting": "·", "completed": "✓", "reused": "↺", "failed": "✗", "interrupted": "■"}
_GLYPHS_ASCII = {"waiting": ".", "completed": "+", "reused": "=", "failed": "x", "interrupted": "!"}
_STYLES = {
    "waiting": "bright_black",
    "running": "bold yellow",
    "completed": "green",
    "reused": "cyan",
    "failed": "bold red",
    "interrupted": "magenta",
}
_UNITS = {"steps_per_s": "steps/s", "items_per_s": "items/s", "samples_per_s": "samples/s", "images_per_s": "images/s"}
_TIME_LEFT_FIELDS = ("time_left_s", "eta_s", "remaining_s")
_MIN_ELAPSED_S = 2.0
_NARROW_COLUMNS = 100
_TIME_COLUMNS = 7


class Display(Protocol):
    """Shows a run each time that it is told about it."""

    def __call__(self, view: "RunView") -> None:
        """Shows the state of a run."""


class TimeLeft:
    """Estimates the time that a step still needs, from the speed since it was first seen in its present phase.

    A resumed step does not begin at zero, so the speed is that of what was seen, not of what was done.
    """

    def __init__(self) -> None:
        self._origins: dict[tuple[str, str, int], tuple[int, float]] = {}

    def estimate(self, step: "StepView") -> float | None:
        """Returns seconds, or None while there is too little to judge by."""
        for name in _TIME_LEFT_FIELDS:
            value = step.fields.get(name)
            if isinstance(value, (int, float)):
                return float(value)
        if step.total <= 0:
            return None
        completed, elapsed_s = self._origins.setdefault(
            (step.name, step.description, step.total), (step.completed, step.elapsed_s)
        )
        done, took_s = step.completed - completed, step.elapsed_s - elapsed_s
        if done <= 0 or took_s < _MIN_ELAPSED_S:
            return None
        return (step.total - step.completed) * took_s / done


def describe_figures(step: "StepView", time_left_s: float | None, *, with_description: bool = True) -> str:
    """Returns what a running step says of itself, the most useful first: time left, figures, count, description."""
    parts = []
    if time_left_s is not None:
        parts.append(f"{format_duration(time_left_s)} left")
    for name, value in step.fields.items():
        if name in _TIME_LEFT_FIELDS:
            continue
        shown = value if isinstance(value, str) else format_number(value)
        parts.append(f"{shown} {_UNITS[name]}" if name in _UNITS else f"{name.replace('_', ' ')} {shown}")
    if step.total > 0:
        parts.append(f"{step.completed:,}/{step.total:,}")
    if with_description and step.description:
        parts.append(step.description)
    return printable(" · ".join(parts))


class PlainDisplay:
    """One line for each change of state, and one about every ten seconds while a step runs.

    Args:
        stream: Where to write.
        interval_s: The least time between two lines about one step in one state.
    """

    def __init__(self, stream: TextIO, *, interval_s: float = _PLAIN_INTERVAL_S) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._seen: dict[str, tuple[str, float]] = {}
        self._time_left = TimeLeft()

    def __call__(self, view: "RunView") -> None:
        """Writes the lines that are due."""
        if not self._seen:
            self._line(view, f"run {view.run_id} · pipeline {view.pipeline} · {_count_steps(view)}")
        for step in view.steps:
            status, told_at = self._seen.get(step.name, ("waiting", view.elapsed_s))
            time_left_s = self._time_left.estimate(step)
            if step.status != status:
                self._tell_change(view, step)
            elif step.status == "running" and view.elapsed_s - told_at >= self._interval_s:
                self._tell_progress(view, step, time_left_s)
            else:
                self._seen[step.name] = (status, told_at)
                continue
            self._seen[step.name] = (step.status, view.elapsed_s)

    def _tell_progress(self, view: "RunView", step: "StepView", time_left_s: float | None) -> None:
        self._line(view, f"{step.name}: {describe_figures(step, time_left_s) or 'starting'}")

    def _tell_change(self, view: "RunView", step: "StepView") -> None:
        if step.status == "running":
            self._line(view, f"{step.name}: started")
            return
        took = f" in {format_duration(step.elapsed_s)}" if step.elapsed_s and step.status != "reused" else ""
        summary = f" · {printable(step.summary)}" if step.summary else ""
        self._line(view, f"{step.name}: {step.status}{took}{summary}")

    def _line(self, view: "RunView", text: str) -> None:
        self._stream.write(f"[{format_duration(view.elapsed_s):>6}] {text}\n")
        self._stream.flush()


def _count_steps(view: "RunView") -> str:
    return "1 step" if len(view.steps) == 1 else f"{len(view.steps)} steps"


class LiveDisplay:
    """Draws the table of a run; `show` is given each drawing.

    Args:
        console: Where it is drawn.
    """

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._time_left = TimeLeft()
        self._is_ascii = not (console.encoding or "").lower().startswith("utf")

    def draw(self, view: "RunView") -> "RenderableType":
        """Returns the drawing of a run at this moment."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        # Every width is fixed: left to itself, a long remark would squeeze the other columns.
        width = self._console.width
        names = max((len(step.name) for step in view.steps), default=1)
        bar = 12 if width < _NARROW_COLUMNS else 28
        table = Table.grid(padding=(0, 1), expand=False)
        for fixed in (1, names, bar):
            table.add_column(width=fixed, no_wrap=True)
        table.add_column(width=_TIME_COLUMNS, no_wrap=True, justify="right")
        remark = width - sum(fixed + 1 for fixed in (1, names, bar, _TIME_COLUMNS))
        table.add_column(width=max(remark, 1), no_wrap=True, overflow="ellipsis")
        for step in view.steps:
            style = _STYLES.get(step.status, "")
            elapsed = format_duration(step.elapsed_s) if step.status not in {"waiting", "reused"} else ""
            table.add_row(
                Text(self._glyph(step, view.elapsed_s), style=style),
                Text(step.name, style="bright_black" if step.status == "waiting" else ""),
                self._bar(step),
                Text(elapsed, style="bright_black"),
                self._remark(step),
            )
        title = Text.assemble(
            ("run ", "bright_black"),
            short_id(view.run_id),
            (f"  {view.pipeline}  {format_duration(view.elapsed_s)}", "bright_black"),
        )
        return Group(title, table)

    def _glyph(self, step: "StepView", elapsed_s: float) -> str:
        if step.status == "running":
            frames = _SPINNER_ASCII if self._is_ascii else _SPINNER
            return frames[int(elapsed_s * 5) % len(frames)]
        return (_GLYPHS_ASCII if self._is_ascii else _GLYPHS).get(step.status, "?")

    def _bar(self, step: "StepView") -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        if step.status == "waiting" or (step.total <= 0 and step.status != "running"):
            return Text("")
        if step.status in {"completed", "reused"}:
            return ProgressBar(total=1, completed=1)
        if step.total <= 0:
            return ProgressBar(total=None, pulse=True, animation_time=step.elapsed_s)
        return ProgressBar(total=step.total, completed=step.completed)

    def _remark(self, step: "StepView") -> "Text":
        from rich.text import Text

        if step.status == "running":
            return Text(describe_figures(step, self._time_left.estimate(step)) or "starting")
        text = printable(step.summary)
        if step.status == "reused":
            text = f"reused · {text}" if text else "reused"
        return Text(text, style="red" if step.status == "failed" else "bright_black")


@contextmanager
def run_display(*, keep: bool) -> Iterator[Display]:
    """Shows a run on standard error for as long as the block runs.

    Args:
        keep: Leave the table on the terminal when the block ends.
    """
    if not sys.stderr.isatty():
        yield PlainDisplay(sys.stderr)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    display = LiveDisplay(console)
    with Live(console=console, auto_refresh=False, transient=not keep, redirect_stdout=False) as live:

        def show(view: "RunView") -> None:
            live.update(display.draw(view), refresh=True)

        yield show


class TaskProgress(Protocol):
    """Shows how far one task has come."""

    def __call__(self, completed: int, total: int, description: str = "") -> None:
        """Shows it."""


@contextmanager
def task_progress(title: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[TaskProgress]:
    """Shows one task that is no run, on standard error: a bar on a terminal, plain lines elsewhere.

    Args:
        title: What the task is called.
        clock: Seconds, from any origin.
    """
    began = clock()
    if sys.stderr.isatty():
        with _task_bar(title) as progress:
            yield progress
        return
    told_at = 0.0

    def show(completed: int, total: int, description: str = "") -> None:
        nonlocal told_at
        now = clock() - began
        if now - told_at < _PLAIN_INTERVAL_S:
            return
        told_at = now
        sys.stderr.write(f"[{format_duration(now):>6}] {title}: {completed:,}/{total:,} {printable(description)}\n")
        sys.stderr.flush()

    yield show


@contextmanager
def _task_bar(title: str) -> Iterator[TaskProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn(title, markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=None)

        def show(completed: int, total: int, description: str = "") -> None:
            bar.update(task, completed=completed, total=total, description=printable(description))

        yield show
