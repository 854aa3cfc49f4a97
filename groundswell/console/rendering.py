"""Makes pages: templates with everything escaped, and what all of them share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import groundswell
from governance.pages.rendering import page_environment, printable

if TYPE_CHECKING:
    from jinja2 import Environment

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@lru_cache(maxsize=1)
def environment() -> "Environment":
    """Returns the templates' environment."""
    made = page_environment("groundswell.console")
    made.globals["release"] = groundswell.__version__
    made.globals["lineage_of"] = lineage_url
    made.globals["version_url"] = version_url
    made.filters["duration"] = duration
    made.filters["figure"] = figure
    made.filters["thousands"] = lambda number: f"{number:,}"
    return made


def render(request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """Renders a page.

    Args:
        request: The request; its path says where in the menu the page is.
        template: Its template.
        values: What the template takes.
        status: The answer's status.
    """
    page = environment().get_template(template).render(section=request.url.path.split("/")[1], **values)
    return HTMLResponse(printable(page), status)


@lru_cache(maxsize=1)
def style_sheet() -> str:
    """Returns the style sheet: that of the reports, and what only the console has."""
    made = environment()
    return made.get_template("style.css.j2").render() + made.get_template("console.css.j2").render()


def style(request: Request) -> Response:  # noqa: ARG001 - the router's signature
    """Answers with the style sheet."""
    return Response(style_sheet(), media_type="text/css", headers={"Cache-Control": "max-age=300"})


def lineage_url(subject: str) -> str:
    """Returns the address of a lineage report."""
    return f"/lineage?{urlencode({'subject': subject})}"


def version_url(name: str, version: object) -> str:
    """Returns the address of a model version's page."""
    return f"/models/{quote(name, safe='')}/{version}"


def duration(seconds: float | None) -> str:
    """Returns a time as people say it."""
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds < _DAY:
        return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // 60)} min"
    return f"{int(seconds // _DAY)} d {int(seconds % _DAY // _HOUR)} h"


def figure(value: object) -> str:
    """Returns a figure with the digits that matter."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def seconds_between(started: str, ended: str | None) -> float:
    """Returns how long something took, until now where it has not ended."""
    until = datetime.fromisoformat(ended) if ended else datetime.now(UTC)
    return (until - datetime.fromisoformat(started)).total_seconds()
