"""docs/DASHBOARD.md: each query of the dashboard, and what a real Prometheus has answered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs" / "DASHBOARD.md"
_HEAD = """\
# The dashboard's queries

<!-- Written by tests/groundswell/console/test_prometheus.py under GROUNDSWELL_UPDATE_DASHBOARD=1; edit that, not this file. -->

What each panel of `infra/monitoring/grafana/dashboards/groundswell.json` asks, and what Debian's Prometheus answered. It had
scraped a console whose home had runs that went on, had ended and had failed, champions, requests that wait, withheld samples and
a GPU. Times are seconds since 1970 or spans; `$pipeline` stood for all of them.
"""
_MOST = 2
_OWN = {"__name__", "job", "instance"}


def page_of(answers: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]]) -> str:
    """Returns the page.

    Args:
        answers: The panel's title, its query, and the result of an instant query of Prometheus' API.
    """
    rows = (f"| {title} | {_code(query)} | {_told(result)} |" for title, query, result in answers)
    return "\n".join([_HEAD, "| panel | query | answer |", "|---|---|---|", *rows, ""])


def queries_of(page: str) -> list[tuple[str, str]]:
    """Returns the panels' titles and queries that a page lists."""
    cells = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "`" in line]
    return [(row[0].removeprefix("| "), row[1].strip("`").replace("\\|", "|")) for row in cells]


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"


def _told(result: Sequence[Mapping[str, Any]]) -> str:
    told = []
    for series in result[:_MOST]:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(series["metric"].items()) if name not in _OWN)
        told.append(f"{labels}: {float(series['value'][1]):.6g}" if labels else f"{float(series['value'][1]):.6g}")
    left = len(result) - len(told)
    return "; ".join(told) + (f"; {left} more" if left > 0 else "")
