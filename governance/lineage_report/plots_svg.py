"""Draws the plots of a lineage report as SVG without scripts; the page's style sheet colours them."""

import math
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from governance.lineage_report.plots import Curve, Estimate, estimate_words

_WIDTH, _HEIGHT = 460.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 12.0, 30.0
_STRIP_WIDTH, _STRIP_HEIGHT = 300.0, 46.0
_STRIP_MARGIN = 10.0
_NUM_TICKS = 5


def draw_curve(curve: Curve) -> str:
    """Draws a curve with its average over it."""
    ticks = nice_ticks(*_range([*curve.y, *curve.smoothed]))
    low, high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> str:
        across = (x - curve.x[0]) / max(1, curve.x[-1] - curve.x[0])
        up = (y - low) / (high - low)
        return f"{_LEFT + across * (_WIDTH - _LEFT - _RIGHT):.1f} {_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    def line(values: Sequence[float]) -> str:
        return "M" + " L".join(place(x, y) for x, y in zip(curve.x, values, strict=True))

    parts = [opening(_WIDTH, _HEIGHT, curve.title, curve.words)]
    for tick in ticks:
        _, y = place(curve.x[0], tick).split()
        parts.append(f'<path class="grid" d="M{_LEFT:.1f} {y} H{_WIDTH - _RIGHT:.1f}"/>')
        parts.append(f'<text class="tick y" x="{_LEFT - 7:.1f}" y="{float(y) + 4:.1f}">{tick:.4g}</text>')
    for x, anchor in ((curve.x[0], "start"), (curve.x[-1], "end")):
        across = place(x, low).split()[0]
        parts.append(f'<text class="tick {anchor}" x="{across}" y="{_HEIGHT - 10:.1f}">step {x:,}</text>')
    parts.append(f'<path class="raw" d="{line(curve.y)}"/>')
    parts.append(f'<path class="line" d="{line(curve.smoothed)}"/>')
    return "\n".join([*parts, "</svg>"])


def draw_estimate(estimate: Estimate) -> str:
    """Draws an estimate on its own scale: a dot, the interval through it, a mark for each reference."""
    given = [estimate.value, *(value for _, value in estimate.references)]
    given += [value for value in (estimate.low, estimate.high) if value is not None]
    low, high = _range(given)

    def across(value: float) -> float:
        return _STRIP_MARGIN + (value - low) / (high - low) * (_STRIP_WIDTH - 2 * _STRIP_MARGIN)

    axis = 15.0
    parts = [opening(_STRIP_WIDTH, _STRIP_HEIGHT, estimate.name, estimate_words(estimate))]
    parts.append(f'<path class="grid" d="M{_STRIP_MARGIN:.1f} {axis} H{_STRIP_WIDTH - _STRIP_MARGIN:.1f}"/>')
    if estimate.low is not None and estimate.high is not None:
        first, last = across(estimate.low), across(estimate.high)
        parts.append(f'<path class="interval" d="M{first:.1f} {axis} H{last:.1f}"/>')
    for (name, value), anchor, x in _labels(estimate, across):
        parts.append(f'<path class="reference" d="M{across(value):.1f} {axis - 7} V{axis + 7}"/>')
        parts.append(f'<text class="tick {anchor}" x="{x:.1f}" y="{_STRIP_HEIGHT - 6:.1f}">{escape(name)}</text>')
    parts.append(f'<circle class="dot" cx="{across(estimate.value):.1f}" cy="{axis}" r="5"/>')
    return "\n".join([*parts, "</svg>"])


def _labels(estimate: Estimate, across: Callable[[float], float]) -> list[tuple[tuple[str, float], str, float]]:
    """Returns the references with anchor and place of each label; a label that would cover the one before it is left out."""
    placed: list[tuple[tuple[str, float], str, float]] = []
    free_from = 0.0
    for reference in sorted(estimate.references, key=lambda one: one[1]):
        x, width = across(reference[1]), 6.2 * len(reference[0])
        anchor = "start" if x < width / 2 else "end" if x > _STRIP_WIDTH - width / 2 else "middle"
        left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
        if left < free_from:
            placed.append(((("", reference[1])), "middle", x))
            continue
        free_from = left + width + 6
        placed.append((reference, anchor, x))
    return placed


def nice_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers, evenly apart, from at most `low` to at least `high`."""
    raw = (high - low) / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2)


def opening(width: float, height: float, title: str, words: str) -> str:
    """Returns the opening tag of a plot, which tells its title and words to who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(f"{title}: {words}", {chr(34): "&quot;"})}">'
    )
