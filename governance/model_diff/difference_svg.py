"""Draws a paired difference as SVG without scripts: nothing in the middle, what is better to the right."""

from governance.lineage_report.plots_svg import opening
from governance.model_diff.model import Difference, MetricPair

_WIDTH, _HEIGHT = 300.0, 46.0
_MARGIN, _AXIS = 14.0, 15.0


def draw_difference(pair: MetricPair) -> str:
    """Draws the difference of a metric on its own scale: a dot, the interval through it, a mark for no difference."""
    if pair.difference is None:
        return ""
    found = pair.difference
    sign = -1.0 if pair.better == "lower" else 1.0
    ends = ("worse", "better") if pair.better else ("lower", "higher")
    reach = max(abs(found.value), abs(found.low), abs(found.high)) or 1.0

    def across(value: float) -> float:
        return _WIDTH / 2 + sign * value / reach * (_WIDTH / 2 - _MARGIN)

    first, last = sorted((across(found.low), across(found.high)))
    label = _HEIGHT - 6
    return "\n".join(
        [
            opening(_WIDTH, _HEIGHT, pair.name, difference_words(pair)),
            f'<path class="grid" d="M{_MARGIN:.1f} {_AXIS} H{_WIDTH - _MARGIN:.1f}"/>',
            f'<path class="interval {found.verdict}" d="M{first:.1f} {_AXIS} H{last:.1f}"/>',
            f'<path class="reference" d="M{_WIDTH / 2:.1f} {_AXIS - 9} V{_AXIS + 9}"/>',
            f'<circle class="dot {found.verdict}" cx="{across(found.value):.1f}" cy="{_AXIS}" r="5"/>',
            f'<text class="tick start" x="{_MARGIN - 8:.1f}" y="{label}">← {ends[0]}</text>',
            f'<text class="tick middle" x="{_WIDTH / 2:.1f}" y="{label}">no difference</text>',
            f'<text class="tick end" x="{_WIDTH - _MARGIN + 8:.1f}" y="{label}">{ends[1]} →</text>',
            "</svg>",
        ]
    )


def difference_words(pair: MetricPair) -> str:
    """Returns a difference in words: ``-0.11 (-0.148 to -0.0762): better``."""
    return f"{interval_text(pair.difference)}: {verdict_text(pair.difference)}" if pair.difference else pair.why_not


def interval_text(found: Difference) -> str:
    """Returns a difference with its interval: ``-0.11 (-0.148 to -0.0762)``."""
    return f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})"


def verdict_text(found: Difference) -> str:
    """Returns what a difference means: ``better``, ``worse``, ``different``, or that nothing can be said."""
    if found.verdict != "undecided":
        return found.verdict
    return "not to be told from chance" if found.low < found.high else "no difference"


def signed(value: float) -> str:
    """Returns a difference to three digits, with its sign."""
    return f"{value:+.3g}" if value else "0"
