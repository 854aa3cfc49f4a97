"""Renders a report as one HTML page without scripts and without anything fetched from elsewhere."""

from collections.abc import Mapping

from governance.lineage_report.graph_svg import draw
from governance.lineage_report.model import ReportContent
from governance.lineage_report.plots import estimate_words
from governance.lineage_report.plots_svg import draw_curve, draw_estimate
from governance.pages.rendering import page_environment, printable


def anchors(content: ReportContent) -> Mapping[str, str]:
    """Returns the fragment name of each node's section."""
    return {node.subject: f"n{position}" for position, node in enumerate(content.nodes)}


def render_html(content: ReportContent) -> str:
    """Renders the page; whatever comes from records is escaped."""
    from markupsafe import Markup, escape

    environment = page_environment("governance.lineage_report")
    environment.filters["curve"] = lambda curve: Markup(draw_curve(curve))  # noqa: S704  # it escapes each text
    environment.filters["strip"] = lambda estimate: Markup(draw_estimate(estimate))  # noqa: S704  # the same
    environment.filters["in_words"] = estimate_words
    environment.filters["breakable"] = lambda name: escape(name).replace("_", Markup("_<wbr>"))
    links = anchors(content)
    graph = _graph(content, links) if content.nodes else ""
    template = environment.get_template("report.html.j2")
    page = template.render(report=content, anchors=links, graph=Markup(graph))  # noqa: S704  # draw escapes each text
    return printable(page)


def _graph(content: ReportContent, links: Mapping[str, str]) -> str:
    imported = content.imported_edges.keys()
    return draw(content.nodes, content.edges, anchors=links, highlight=content.highlight, imported=imported)
