import xml.etree.ElementTree as ET
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from governance.lineage import Edge
from governance.lineage_report.graph_svg import acyclic, draw, lay_out
from governance.lineage_report.model import Node

names = st.sampled_from("abcdefghij")
graphs = st.tuples(st.lists(names, min_size=1, max_size=10, unique=True), st.lists(st.tuples(names, names), max_size=20)).map(
    lambda drawn: (drawn[0], sorted({Edge(a, b) for a, b in drawn[1] if a in drawn[0] and b in drawn[0]}))
)


def as_nodes(subjects: list[str], title: str = "a node") -> list[Node]:
    return [Node(subject=s, kind="step" if i % 2 else "model", title=title, subtitle=title) for i, s in enumerate(subjects)]


@settings(max_examples=40, deadline=None)
@given(graphs)
def test_no_node_overlaps_another_and_all_lie_inside(graph: tuple[list[str], list[Edge]]) -> None:
    layout = lay_out(as_nodes(graph[0]), graph[1])
    assert set(layout.boxes) == set(graph[0])
    assert not any(a.overlaps(b) for a, b in combinations(layout.boxes.values(), 2))
    for box in layout.boxes.values():
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= layout.width
        assert 0 <= box.y - box.height / 2 < box.y + box.height / 2 <= layout.height


@settings(max_examples=40, deadline=None)
@given(graphs)
def test_edges_run_downwards(graph: tuple[list[str], list[Edge]]) -> None:
    layout = lay_out(as_nodes(graph[0]), graph[1])
    assert set(layout.routes) == set(acyclic(graph[1]))
    for edge in layout.routes:
        assert layout.boxes[edge.source].y < layout.boxes[edge.target].y


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_any_title_gives_well_formed_xml(title: str) -> None:
    ET.fromstring(draw(as_nodes(["x", "y"], title), [Edge("x", "y")], anchors={"x": title}))


def test_the_same_graph_is_drawn_the_same() -> None:
    nodes = as_nodes(list("abcdef"))
    edges = [Edge("a", "c"), Edge("b", "c"), Edge("a", "f"), Edge("c", "d"), Edge("d", "f"), Edge("b", "e")]
    assert len({draw(nodes, edges, anchors={}) for _ in range(5)}) == 1
