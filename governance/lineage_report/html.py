"""Renders a report as one HTML page without scripts and without anything fetched from elsewhere."""

from collections.abc import Mapping

from governance.lineage_report.graph_svg import draw
from governance.lineage_report.model import ReportContent
from governance.lineage_report.plots import estimate_words
from governance.lineage_report.plots_svg import draw_curve, draw_estimate


def anchors(content: ReportContent) -> Mapping[str, str]:
    """Returns the fragment name of each node's section."""
    return {node.subject: f"n{position}" for position, node in enumerate(content.nodes)}


def render_html(content: ReportContent) -> str:
    """Renders the page; whatever comes from records is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("governance.lineage_report", "."),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = _moment
    environment.filters["printable"] = _printable
    environment.filters["curve"] = lambda curve: Markup(draw_curve(curve))  # noqa: S704  # it escapes each text
    environment.filters["strip"] = lambda estimate: Markup(draw_estimate(estimate))  # noqa: S704  # the same
    environment.filters["in_words"] = estimate_words
    links = anchors(content)
    graph = _graph(content, links) if content.nodes else ""
    template = environment.get_template("report.html.j2")
    page = template.render(report=content, anchors=links, graph=Markup(graph))  # noqa: S704  # draw escapes each text
    return _printable(page)


def _graph(content: ReportContent, links: Mapping[str, str]) -> str:
    imported = content.imported_edges.keys()
    return draw(content.nodes, content.edges, anchors=links, highlight=content.highlight, imported=imported)


def _moment(time: str | None) -> str:
    """Shortens an RFC 3339 time in UTC to the second: ``2026-11-22 20:43:57 UTC``."""
    if not time:
        return "unknown"
    return f"{time[:10]} {time[11:19]} UTC" if time.endswith("Z") and len(time) >= 20 else time


def _printable(text: str) -> str:
    """Replaces characters that no HTML page may hold, and those that make text read in another order than it is stored."""
    return "".join("\ufffd" if (char < " " and char not in "\t\n") or char in _FORBIDDEN else char for char in text)


_FORBIDDEN = frozenset("\x7f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") | {chr(c) for c in range(0xD800, 0xE000)}
