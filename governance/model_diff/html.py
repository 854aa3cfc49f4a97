"""Renders two models side by side as one HTML page without scripts and without anything fetched from elsewhere."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from governance.lineage_diff import Pair
from governance.model_diff.difference_svg import difference_words, draw_difference, interval_text, signed, verdict_text
from governance.model_diff.model import ModelDiff
from governance.model_diff.words import headline, sentences
from governance.model_records import Figure, show_number
from governance.pages.rendering import page_environment, printable

_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{40,128}")
_TOLD_ELSEWHERE = ("evaluation", "made on the way")
_MAX_ITEMS = 50


def render_html(diff: ModelDiff) -> str:
    """Renders the page; whatever comes from records is escaped."""
    from markupsafe import Markup

    environment = page_environment("governance.model_diff")
    environment.filters["difference"] = lambda pair: Markup(draw_difference(pair))  # noqa: S704  # it holds numbers, and escapes
    environment.filters |= {"in_words": difference_words, "interval": interval_text, "verdict": verdict_text, "signed": signed}
    environment.filters["figure"] = _figure
    environment.filters["value"] = _value
    environment.filters["is_digest"] = lambda value: isinstance(value, str) and _DIGEST.fullmatch(value) is not None
    template = environment.get_template("diff.html.j2")
    return printable(
        template.render(
            diff=diff,
            headline=headline(diff),
            sentences=sentences(diff),
            judged=[pair for pair in diff.metrics if pair.difference],
            sections=_sections(diff),
            pictures=[pair for pair in diff.pictures if pair.first or pair.second],
            max_items=_MAX_ITEMS,
        )
    )


def _sections(diff: ModelDiff) -> list[tuple[str, list[Pair], int]]:
    """Returns the facts of each section that differ, and how many are the same."""
    found = []
    for title, pairs in diff.lineage.sections.items():
        differing = [pair for pair in pairs if pair.differs]
        if differing and title not in _TOLD_ELSEWHERE:
            same = sum(not pair.differs and not pair.is_unknown for pair in pairs)
            found.append((title.capitalize(), differing, same))
    return found


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "none"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3g}"
    return f"{figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g})"


def _value(value: Any) -> str:
    """Returns a fact as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return show_number(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_value(one)}" for name, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_value, value))
    return str(value)
