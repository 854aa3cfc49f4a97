"""Draws a lineage graph: grandalf's layered (Sugiyama) layout, top to bottom, as SVG.

Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical system structures, IEEE Trans. SMC 11 (1981).
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from governance.lineage import Edge
from governance.lineage_report.model import Node

NODE_WIDTH = 212.0
STEP_HEIGHT = 34.0
ARTIFACT_HEIGHT = 50.0
_GAP_X = 22.0
_GAP_Y = 34.0
_BEND_WIDTH = 6.0
_MARGIN = 14.0
_TITLE_CHARS = 27
_WIDE_TITLE_CHARS = 22  # a longer one is written smaller: digits and capitals of some fonts would not fit
_SUBTITLE_CHARS = 28
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="arrow" d="M0 0.8 L7.2 4 L0 7.2 z"/></marker></defs>'
)


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where a node is drawn: centre and size, in SVG units."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: "Box") -> bool:
        """Says whether two boxes share some area."""
        return abs(self.x - other.x) * 2 < self.width + other.width and abs(self.y - other.y) * 2 < self.height + other.height


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Boxes by subject, the points each edge goes through, and the size of the whole."""

    boxes: Mapping[str, Box]
    routes: Mapping[Edge, tuple[tuple[float, float], ...]]
    width: float
    height: float


class _View:
    """The size that grandalf reads and the place that it writes."""

    def __init__(self, width: float, height: float) -> None:
        self.w = width
        self.h = height
        self.xy = (0.0, 0.0)


def acyclic(edges: Iterable[Edge]) -> list[Edge]:
    """Returns the edges without loops and without those that close a cycle, found depth first."""
    targets: dict[str, list[str]] = {}
    for edge in edges:
        targets.setdefault(edge.source, []).append(edge.target)
    state: dict[str, bool] = {}  # False while on the path, True when left
    kept: list[Edge] = []
    for root in list(targets):
        if root in state:
            continue
        state[root] = False
        path = [(root, iter(targets[root]))]
        while path:
            node, rest = path[-1]
            target = next(rest, None)
            if target is None:
                state[node] = True
                path.pop()
            elif target not in state:
                kept.append(Edge(node, target))
                state[target] = False
                path.append((target, iter(targets.get(target, ()))))
            elif state[target]:
                kept.append(Edge(node, target))
    return kept


def lay_out(nodes: Sequence[Node], edges: Iterable[Edge]) -> Layout:
    """Places nodes in layers so that no two overlap; edges that would close a cycle are left out.

    Args:
        nodes: At least one, subjects unique.
        edges: Between subjects of these nodes.
    """
    from grandalf.graphs import Edge as GrandalfEdge
    from grandalf.graphs import Graph, Vertex
    from grandalf.layouts import SugiyamaLayout

    # grandalf iterates over sets of vertices and of edges: hashes by position make the drawing the same each time.
    class StableVertex(Vertex):  # type: ignore[misc]
        def __hash__(self) -> int:
            return positions[self.data]

    class StableEdge(GrandalfEdge):  # type: ignore[misc]
        def __hash__(self) -> int:
            return positions[self.v[0].data] * len(positions) + positions[self.v[1].data]

    positions = {node.subject: position for position, node in enumerate(nodes)}
    vertices = {}
    for node in nodes:
        vertices[node.subject] = StableVertex(node.subject)
        vertices[node.subject].view = _View(NODE_WIDTH, STEP_HEIGHT if node.kind == "step" else ARTIFACT_HEIGHT)
    links = {edge: StableEdge(vertices[edge.source], vertices[edge.target]) for edge in acyclic(edges)}
    graph = Graph(list(vertices.values()), list(links.values()))
    boxes: dict[str, Box] = {}
    routes: dict[Edge, tuple[tuple[float, float], ...]] = {}
    left = _MARGIN
    for component in graph.C:
        layout = SugiyamaLayout(component)
        layout.xspace, layout.yspace = _GAP_X, _GAP_Y
        layout.dw, layout.dh = _BEND_WIDTH, _BEND_WIDTH
        roots = [v for v in vertices.values() if v in component.sV and not v.e_in()]
        layout.init_all(roots=roots, inverted_edges=[], optimize=True)
        layout.draw(N=8)
        _spread(layout)
        views = [v.view for layer in layout.layers for v in layer]
        shift = left - min(view.xy[0] - view.w / 2 for view in views)
        for vertex in component.sV:
            x, y = vertex.view.xy
            boxes[vertex.data] = Box(x=x + shift, y=y + _MARGIN, width=vertex.view.w, height=vertex.view.h)
        for edge, link in links.items():
            if link in component.sE:
                routes[edge] = _route(layout, link, shift)
        left = max(view.xy[0] + view.w / 2 for view in views) + shift + _GAP_X
    height = max(box.y + box.height / 2 for box in boxes.values()) + _MARGIN
    return Layout(boxes=boxes, routes=routes, width=left - _GAP_X + _MARGIN, height=height)


def _spread(layout: Any) -> None:
    """Pushes apart what the layout left closer than the gap within a layer, keeping the order and the middle."""
    for layer in layout.layers:
        views = sorted((vertex.view for vertex in layer), key=lambda view: view.xy[0])
        before = sum(view.xy[0] for view in views)
        for left, right in itertools.pairwise(views):
            nearest = left.xy[0] + (left.w + right.w) / 2 + _GAP_X / 2
            right.xy = (max(right.xy[0], nearest), right.xy[1])
        middle = (sum(view.xy[0] for view in views) - before) / len(views)
        for view in views:
            view.xy = (view.xy[0] - middle, view.xy[1])


def _route(layout: Any, link: Any, shift: float) -> tuple[tuple[float, float], ...]:
    """Returns the points of an edge: from the foot of its source past its dummies to the head of its target."""
    source, target = link.v
    between = [v.view.xy for rank, v in sorted(layout.ctrls.get(link, {}).items()) if v not in {source, target}]
    start = (source.view.xy[0], source.view.xy[1] + source.view.h / 2)
    end = (target.view.xy[0], target.view.xy[1] - target.view.h / 2)
    return tuple((x + shift, y + _MARGIN) for x, y in [start, *between, end])


def draw(
    nodes: Sequence[Node],
    edges: Iterable[Edge],
    *,
    anchors: Mapping[str, str],
    highlight: str = "",
    imported: Collection[Edge] = (),
) -> str:
    """Draws a graph as an SVG element whose nodes link to sections of the page; the page's style sheet colours it.

    Args:
        nodes: The nodes.
        edges: The edges.
        anchors: Fragment names by subject.
        highlight: Subject of the node to mark.
        imported: The edges that only other producers state.
    """
    layout = lay_out(nodes, edges)
    width, height = _number(layout.width), _number(layout.height)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="Lineage graph: what was made from what, top to bottom">'
    )
    parts = [opening, _ARROW]
    for edge, points in layout.routes.items():
        classes = "edge imported" if edge in imported else "edge"
        parts.append(f'<path class="{classes}" d="{_curve(points)}" marker-end="url(#arrow)"/>')
    parts += [
        _draw_node(node, layout.boxes[node.subject], anchors.get(node.subject), node.subject == highlight) for node in nodes
    ]
    return "\n".join([*parts, "</svg>"])


def _draw_node(node: Node, box: Box, anchor: str | None, is_highlight: bool) -> str:
    left, top = box.x - box.width / 2, box.y - box.height / 2
    classes = f"node {'step' if node.kind == 'step' else 'artifact'}"
    classes += " subject" if is_highlight else ""
    classes += " imported" if node.imported_from else ""
    classes += " broken" if node.status in {"failed", "interrupted"} else ""
    radius = box.height / 2 if node.kind == "step" else 7
    name = "name long" if len(node.title) > _WIDE_TITLE_CHARS else "name"
    title_y = box.y + 4.5 if node.kind == "step" else box.y - 3.5
    size = f'width="{_number(box.width)}" height="{_number(box.height)}" rx="{_number(radius)}"'
    lines = [
        f"<title>{_xml(node.subject)}</title>",
        f'<rect x="{_number(left)}" y="{_number(top)}" {size}/>',
        f'<text class="{name}" x="{_number(box.x)}" y="{_number(title_y)}">{_xml(_shortened(node.title, _TITLE_CHARS))}</text>',
    ]
    if node.kind != "step" and node.subtitle:
        subtitle = _xml(_shortened(node.subtitle, _SUBTITLE_CHARS))
        lines.append(f'<text class="more" x="{_number(box.x)}" y="{_number(box.y + 14.5)}">{subtitle}</text>')
    group = f'<g class="{classes}">{"".join(lines)}</g>'
    return group if anchor is None else f"<a href={quoteattr('#' + _clean(anchor))}>{group}</a>"


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line through points, vertical at each of them."""
    x, y = points[0]
    parts = [f"M{_number(x)} {_number(y)}"]
    for next_x, next_y in points[1:]:
        middle = _number((y + next_y) / 2)
        parts.append(f"C{_number(x)} {middle} {_number(next_x)} {middle} {_number(next_x)} {_number(next_y)}")
        x, y = next_x, next_y
    return " ".join(parts)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _xml(text: str) -> str:
    """Escapes a text for XML."""
    return escape(_clean(text))


def _clean(text: str) -> str:
    """Replaces characters that XML cannot hold at all."""
    return "".join(
        char if char in "\t\n" or (char >= " " and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff") else "\ufffd"
        for char in text
    )
