"""Chooses what part of the lineage a report draws, and collapses what would only repeat."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from governance.imported_lineage import told_by
from governance.lineage import Edge, LineageGraph, step_subject
from infra.lineage import downstream, load_events, load_imported, upstream
from infra.lineage_subjects import run_of_step
from infra.tables import steps

MAX_DOWNSTREAM = 60
_MAX_LOOSE_MEDIA = 3
_BATCH = 400


def read_graph(connection: Connection, subject: str, node: str) -> tuple[LineageGraph, int]:
    """Reads all that a subject was made from and, up to a bound, what was made from it.

    Args:
        connection: An open connection.
        subject: The subject.
        node: Its node, see `graph_node`.

    Returns:
        The graph, and how many things made from the subject it leaves out.
    """
    if node:
        before, after = upstream(connection, node), downstream(connection, node)
        hidden = redundant_steps(connection, LineageGraph((*before.edges, *after.edges), nodes=[node]))
        kept = _nearest(after.restricted_to(after.nodes - hidden), node)
        shown = (before.nodes - hidden) | kept
        left_out = len(after.nodes - hidden - shown)
        return LineageGraph((*before.edges, *after.edges), nodes=[node]).restricted_to(shown), left_out
    run_id = subject.removeprefix("run:")
    own = [f"step:{run_id}/{name}" for (name,) in connection.execute(select(steps.c.step).where(steps.c.run_id == run_id))]
    own += _event_steps(connection, run_id)
    edges: set[Edge] = set()
    for step in dict.fromkeys(own):
        made = LineageGraph(downstream(connection, step).edges, nodes=[step])
        edges |= {edge for edge in made.edges if edge.source == step}
        for target in (step, *made.targets(step)):
            edges |= set(upstream(connection, target).edges)
    graph = LineageGraph(edges, nodes=own)
    return graph.restricted_to(graph.nodes - redundant_steps(connection, graph)), 0


def _event_steps(connection: Connection, run_id: str) -> list[str]:
    """Steps of a run that only events know."""
    found = {step_subject(event) for event in load_events(connection, run_ids=[run_id])}
    return sorted(found | {told_by(event, imported=True).step for event, _ in load_imported(connection, [run_id])})


def redundant_steps(connection: Connection, graph: LineageGraph) -> frozenset[str]:
    """Returns the steps that reused what another step of the graph made: the maker is shown, not the repeats."""
    run_ids = sorted({run_of_step(node) for node in graph.nodes if node.startswith("step:")})
    status: dict[str, str] = {}
    for start in range(0, len(run_ids), _BATCH):
        query = select(steps.c.run_id, steps.c.step, steps.c.status).where(steps.c.run_id.in_(run_ids[start : start + _BATCH]))
        status |= {f"step:{run_id}/{step}": state for run_id, step, state in connection.execute(query)}
    found = set()
    for node in graph.nodes:
        if status.get(node) != "reused" or not graph.targets(node):
            continue
        if all(any(status.get(other) != "reused" for other in graph.sources(made)) for made in graph.targets(node)):
            found.add(node)
    return frozenset(found)


def _nearest(graph: LineageGraph, node: str) -> frozenset[str]:
    """Returns the nodes closest downstream, nearest first, media counted as one for each step that made them."""
    kept = {node}
    weight = 0
    frontier = [node]
    while frontier and weight < MAX_DOWNSTREAM:
        following: list[str] = []
        for near in frontier:
            for target in graph.targets(near):
                if target in kept or (weight >= MAX_DOWNSTREAM and not target.startswith("media:")):
                    continue
                kept.add(target)
                following.append(target)
                weight += not target.startswith("media:")
        frontier = following
    return frozenset(kept)


def collapse_media(graph: LineageGraph, *, keep: str) -> tuple[LineageGraph, Mapping[str, tuple[str, ...]]]:
    """Replaces many media made by one step, from which nothing was made, by one node.

    Args:
        graph: The graph.
        keep: A node to leave alone.

    Returns:
        The graph, and the members of each new node.
    """
    by_sources: dict[tuple[str, ...], list[str]] = {}
    for node in sorted(graph.nodes):
        if node.startswith("media:") and node != keep and not graph.targets(node) and graph.sources(node):
            by_sources.setdefault(graph.sources(node), []).append(node)
    groups = {
        f"media-group:{sources[0].partition(':')[2]}": tuple(members)
        for sources, members in by_sources.items()
        if len(members) > _MAX_LOOSE_MEDIA
    }
    group_of = {member: group for group, members in groups.items() for member in members}
    edges = [Edge(group_of.get(e.source, e.source), group_of.get(e.target, e.target)) for e in graph.edges]
    return LineageGraph(edges, nodes=graph.nodes - group_of.keys()), groups


def in_order(graph: LineageGraph) -> list[str]:
    """Returns the nodes with causes before results; members of a cycle in the order of their names."""
    waiting = {node: len(graph.sources(node)) for node in sorted(graph.nodes)}
    ordered: list[str] = []
    while waiting:
        ready = [node for node, count in waiting.items() if count == 0] or [next(iter(waiting))]
        for node in ready:
            del waiting[node]
        ordered += ready
        _release(waiting, (target for node in ready for target in graph.targets(node)))
    return ordered


def _release(waiting: dict[str, int], targets: Iterable[str]) -> None:
    for target in targets:
        if target in waiting:
            waiting[target] -= 1
