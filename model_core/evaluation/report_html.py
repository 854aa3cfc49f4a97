"""The evaluation report as one HTML file: figures drawn between their worst and best, and pictures as data URIs."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

TEMPLATE_NAME = "report.html.jinja"
_CLIP_SHARES = {
    "motion_direction": "Clips whose description names one direction: do they go there?",
    "caption_retrieval": "Does a description find its own clip among others?",
}
_PLOT_LEFT, _PLOT_RIGHT = 20.0, 700.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A figure on a line from the worst (left) to the best (right).

    Attributes:
        value: Where the model's dot stands, in pixels from the left.
        low: Left end of the interval's bar.
        high: Right end of the interval's bar.
        worst: Where the mark of noise or chance stands.
        best: Where the mark of real pictures stands.
    """

    value: float
    low: float
    high: float
    worst: float
    best: float


def scale(interval: Mapping[str, float], *, worst: float, best: float, left: float, right: float) -> Scale:
    """Places a figure on its line; what lies beyond an end is drawn at the end.

    Args:
        interval: The figure's `value`, `low` and `high`.
        worst: The figure of noise or chance.
        best: The figure of real pictures.
        left: The figure at the left end.
        right: The figure at the right end.
    """
    span = right - left if right != left else 1.0

    def place(figure: float) -> float:
        share = min(max((figure - left) / span, 0.0), 1.0)
        return round(_PLOT_LEFT + share * (_PLOT_RIGHT - _PLOT_LEFT), 1)

    ends = sorted((place(interval["low"]), place(interval["high"])))
    return Scale(value=place(interval["value"]), low=ends[0], high=ends[1], worst=place(worst), best=place(best))


def render_report(document: Mapping[str, Any], *, samples_png: Path, memorisation_png: Path) -> str:
    """Returns the report as HTML that loads nothing from anywhere.

    Args:
        document: The content of `report.json`.
        samples_png: The sample grid.
        memorisation_png: The pairs of the memorisation check.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    environment.filters["figure"] = lambda number: f"{number:.3g}"
    environment.filters["share"] = lambda number: f"{number:.2f}"
    environment.filters["kid"] = lambda number: f"{round(number, 3) + 0.0:.3f}"
    template = environment.from_string(Path(__file__).with_name(TEMPLATE_NAME).read_text(encoding="utf-8"))
    kid, category = document["kid"], document["category_accuracy"]
    noise = max(kid["noise"]["value"], kid["samples"]["high"])
    accuracy_scale = None
    if category:
        accuracy_scale = scale(category["samples"], worst=category["chance"], best=category["real"]["value"], left=0.0, right=1.0)
    return template.render(
        report=document,
        kid=kid,
        kid_scale=scale(
            kid["samples"],
            worst=kid["noise"]["value"],
            best=kid["real"]["value"],
            left=noise,
            right=min(0.0, kid["samples"]["low"], kid["real"]["value"]),
        ),
        noun="clips" if document.get("clips") else "pictures",
        clips=document.get("clips"),
        clip_shares=_clip_shares(document.get("clips") or {}),
        category=category,
        category_rows=_confusion_rows(category) if category else [],
        accuracy_scale=accuracy_scale,
        utility=document.get("utility"),
        utility_rows=_utility_rows(document.get("utility")),
        memorisation=document["memorisation"],
        manifold=document.get("manifold"),
        frechet=document.get("fd_effnet_lite0"),
        samples_uri=_data_uri(samples_png),
        memorisation_uri=_data_uri(memorisation_png),
    )


def _clip_shares(clips: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the figures of clips that are shares, each with its place on a line."""
    found = [(says, clips[name]) for name, says in _CLIP_SHARES.items() if name in clips]
    ends = {"left": 0.0, "right": 1.0}
    return [
        {**one, "says": says, "scale": scale(one["samples"], worst=one["chance"], best=one["real"], **ends)}
        for says, one in found
    ]


def _utility_rows(utility: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Returns the figures of utility, each with its place on a line from chance to the ceiling."""
    if not utility:
        return []
    best, ends = utility["trtr"]["value"], {"left": 0.0, "right": 1.0}
    rows = (
        ("tstr", "chance", "Learnt from samples, tested on real"),
        ("trts", "chance_samples", "Learnt from real, tested on samples"),
    )
    return [
        {"says": says, "figure": utility[name], "chance": utility[chance], "best": best}
        | {"scale": scale(utility[name], worst=utility[chance], best=best, **ends)}
        for name, chance, says in rows
    ]


def _confusion_rows(category: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row a label that was asked for: its accuracy, and the share of its samples judged as each label."""
    rows = []
    for label, counts in zip(category["labels"], category["confusion"], strict=True):
        total = sum(counts)
        if total:
            rows.append(
                {
                    "label": label,
                    "total": total,
                    "accuracy": category["by_label"][label],
                    "cells": [
                        {"share": count / total, "right": seen == label, "count": count}
                        for seen, count in zip(category["labels"], counts, strict=True)
                    ],
                }
            )
    return rows


def _data_uri(png: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode("ascii")
