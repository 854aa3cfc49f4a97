"""A figure by which a use is accepted: what was measured, its interval, and the threshold that it is held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundswell.cli.output import format_number
from model_core.evaluation.intervals import Interval

EXIT_MISSED = 5
"""As where a gate of a promotion refuses."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured figure beside its threshold.

    A figure with an interval is held to the threshold by the worse end of it, so that luck is not taken for quality.

    Attributes:
        name: What was measured, in words.
        value: The measurement.
        threshold: What it is held to.
        is_ceiling: Whether the threshold is the most that is accepted, in the place of the least.
        interval: Its 95 % interval; None where it is a count and not an estimate.
        chance: What guessing would get; None where there is no guessing.
        num: How many things it was measured on.
    """

    name: str
    value: float
    threshold: float
    num: int
    is_ceiling: bool = False
    interval: Interval | None = None
    chance: float | None = None

    @property
    def reached(self) -> bool:
        """Whether it is accepted. Nothing measured is nothing reached."""
        if not self.num:
            return False
        if self.is_ceiling:
            return (self.interval.high if self.interval else self.value) <= self.threshold
        return (self.interval.low if self.interval else self.value) >= self.threshold

    def document(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return {
            "name": self.name,
            "value": self.value,
            "low": self.interval.low if self.interval else None,
            "high": self.interval.high if self.interval else None,
            "threshold": self.threshold,
            "is_ceiling": self.is_ceiling,
            "chance": self.chance,
            "num": self.num,
            "reached": self.reached,
        }

    def cells(self) -> tuple[str, ...]:
        """Returns it as the cells of a table: name, measurement, interval, threshold, chance, verdict."""
        between = f"{format_number(self.interval.low)} to {format_number(self.interval.high)}" if self.interval else ""
        return (
            self.name,
            format_number(self.value),
            between,
            f"{'at most' if self.is_ceiling else 'at least'} {format_number(self.threshold)}",
            format_number(self.chance),
            "reached" if self.reached else "missed",
        )


def exit_code_of(figures: Sequence[Figure], *, results: int = 0) -> int:
    """Returns 0 where every figure is reached and nothing else was wrong, the code of what was wrong, otherwise 5."""
    return results or (0 if all(figure.reached for figure in figures) else EXIT_MISSED)


def share(name: str, flags: Sequence[bool], *, threshold: float = 1.0, chance: float | None = None) -> Figure:
    """Returns the share of things of which something is true; with Wilson's interval where chance has a part in it.

    Args:
        name: What was measured.
        flags: Whether it is true, thing by thing.
        threshold: The least that is accepted.
        chance: What guessing would get; without it the share is a count.
    """
    from model_core.evaluation.intervals import wilson_interval

    num, true = len(flags), sum(flags)
    return Figure(
        name=name,
        value=true / num if num else 0.0,
        threshold=threshold,
        num=num,
        interval=wilson_interval(true, num) if num and chance is not None else None,
        chance=chance,
    )


def documents(figures: Sequence[Figure]) -> list[Mapping[str, Any]]:
    """Returns figures as plain values."""
    return [figure.document() for figure in figures]
