"""What the plots of a lineage report show, before they are drawn: curves and intervals, each with its words."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_MAX_POINTS = 240
_SMOOTHED = 0.9


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A figure over the steps of a training run.

    Attributes:
        title: What it is.
        subject: The node that holds it.
        x: Steps, from 1.
        y: The figure at each.
        smoothed: Its exponential moving average at each.
        words: The same in words, for who cannot see it.
    """

    title: str
    subject: str
    x: tuple[int, ...]
    y: tuple[float, ...]
    smoothed: tuple[float, ...]
    words: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure of an evaluation.

    Attributes:
        name: Which.
        value: The estimate.
        low: Lower end of its interval; None where none was recorded.
        high: Upper end.
        references: The same figure of what it is to be compared with, by name: of real pictures, of noise, of chance.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    references: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Figures of an evaluation, each on a scale of its own.

    Attributes:
        title: What was evaluated.
        subject: The step that did.
        estimates: The figures.
    """

    title: str
    subject: str
    estimates: tuple[Estimate, ...]


_BOUNDS = ("_low", "_high")
_REFERENCES = {"_real": "real pictures", "_noise": "noise", "_chance": "chance"}


def loss_curve(losses: Sequence[float], *, title: str, subject: str) -> Curve | None:
    """Returns the curve of a training run's losses; None where there are fewer than two finite ones.

    Args:
        losses: One a step.
        title: What it is.
        subject: The node that holds them.
    """
    return loss_curve_of(enumerate(losses, start=1), title=title, subject=subject)


def loss_curve_of(logged: Iterable[tuple[int, float]], *, title: str, subject: str) -> Curve | None:
    """Returns the curve of losses that were logged at some steps; None where fewer than two are finite.

    Args:
        logged: Step and loss, in the order of steps.
        title: What it is.
        subject: The node that holds them.
    """
    points = [(step, float(loss)) for step, loss in logged if math.isfinite(loss)]
    if len(points) < 2:
        return None
    average, averages = points[0][1], []
    for _, loss in points:
        average = _SMOOTHED * average + (1 - _SMOOTHED) * loss
        averages.append(average)
    stride = max(1, math.ceil(len(points) / _MAX_POINTS))
    kept = sorted({*range(0, len(points), stride), len(points) - 1})
    lowest = min(averages)
    words = (
        f"{points[-1][0]:,} steps. The loss was {points[0][1]:.3g} at first and {averages[-1]:.3g} at the end, "
        f"as an average over about ten values; its lowest average was {lowest:.3g}."
    )
    return Curve(
        title=title,
        subject=subject,
        x=tuple(points[place][0] for place in kept),
        y=tuple(points[place][1] for place in kept),
        smoothed=tuple(averages[place] for place in kept),
        words=words,
    )


def estimates_of(metrics: Mapping[str, float], *, title: str, subject: str) -> Estimates | None:
    """Returns those figures of an evaluation that have an interval or something to be compared with; None where none has.

    Args:
        metrics: Figures by name; ``<name>_low`` and ``<name>_high`` are an interval, ``<name>_real`` and so on references.
        title: What was evaluated.
        subject: The step that did.
    """
    finite = {name: float(value) for name, value in metrics.items() if _is_finite(value)}
    found = []
    for name, value in finite.items():
        low, high = (finite.get(name + bound) for bound in _BOUNDS)
        references = tuple((words, finite[name + end]) for end, words in _REFERENCES.items() if name + end in finite)
        has_interval = low is not None and high is not None
        if has_interval or references:
            bounds = (low, high) if has_interval else (None, None)
            found.append(Estimate(name=name, value=value, low=bounds[0], high=bounds[1], references=references))
    return Estimates(title=title, subject=subject, estimates=tuple(found)) if found else None


def estimate_words(estimate: Estimate) -> str:
    """Returns an estimate in words: ``0.289, 0.266 to 0.324; real pictures -0.001, noise 0.766``."""
    words = f"{estimate.value:.3g}"
    if estimate.low is not None and estimate.high is not None:
        words += f", 95 % interval {estimate.low:.3g} to {estimate.high:.3g}"
    others = ", ".join(f"{name} {value:.3g}" for name, value in estimate.references)
    return f"{words}; {others}" if others else words


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
