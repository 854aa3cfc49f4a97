"""What events of other producers add to a lineage report, kept apart from what was recorded here."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from governance.imported_lineage import EXTERNAL, Told, static_name, told_by
from governance.lineage import Edge, Event, LineageGraph, event_edges
from governance.lineage_report.model import ImportedStatement, TimelineEntry
from infra.lineage import load_imported

_NAMED_BY_OTHERS = frozenset({EXTERNAL, "dataset", "model", "package", "media"})


@dataclass(frozen=True, kw_only=True)
class ImportedEvent:
    """An event of another producer.

    Attributes:
        event: The event as it was imported.
        told: What it tells.
        file_sha256: The digest of the file that it came in.
    """

    event: Event
    told: Told
    file_sha256: str

    @property
    def producer(self) -> str:
        """Who says so: the URI that the event names as its producer."""
        return str(self.event["producer"])

    @property
    def is_transition(self) -> bool:
        """Whether it says that its run began or ended."""
        return self.told.event_type in {"START", "COMPLETE", "ABORT", "FAIL"}

    def statement(self) -> ImportedStatement:
        """Returns what a report says of it."""
        about = self.event.get("job") or self.event["dataset"]
        return ImportedStatement(
            producer=self.producer,
            file_sha256=self.file_sha256,
            subject=self.told.step,
            run_id="" if self.told.is_static else self.event["run"]["runId"],
            job=f"{about['namespace']}#{about['name']}",
            event_type=self.told.event_type,
            time=self.told.time,
            edges=self.told.edges,
        )


def read_imported(connection: Connection, run_ids: Collection[str], nodes: Collection[str]) -> tuple[ImportedEvent, ...]:
    """Returns the imported events about some nodes of a graph, in the order in which they were recorded.

    Args:
        connection: An open connection.
        run_ids: The runs that steps among them are of.
        nodes: The nodes; of datasets, those that producers can name.
    """
    names = {static_name(node) for node in nodes if node.partition(":")[0] in _NAMED_BY_OTHERS}
    found = (
        ImportedEvent(event=event, told=told_by(event, imported=True), file_sha256=file_sha256)
        for event, file_sha256 in load_imported(connection, {*run_ids, *names})
    )
    return tuple(one for one in found if one.told.step in nodes)


def producers_of(imported: Iterable[ImportedEvent], own: Iterable[Event], graph: LineageGraph) -> Mapping[Edge, str]:
    """Returns the edges of a graph that only other producers state, with who does.

    Args:
        imported: The imported events of the graph's steps.
        own: The events that groundswell emitted about them.
        graph: The graph.
    """
    stated = {edge for event in own for edge in event_edges(event)}
    by_edge: dict[Edge, dict[str, None]] = {}
    for one in imported:
        for edge in one.told.edges:
            if edge not in stated:
                by_edge.setdefault(edge, {})[one.producer] = None
    return {edge: ", ".join(by_edge[edge]) for edge in graph.edges if edge in by_edge}


def imported_nodes(
    producers: Mapping[Edge, str], graph: LineageGraph, recorded: Collection[str], imported: Iterable[ImportedEvent] = ()
) -> Mapping[str, str]:
    """Returns the nodes of a graph that only other producers know, with who does.

    Args:
        producers: What `producers_of` returned for the graph.
        graph: The graph.
        recorded: Subjects that have a record here.
        imported: The imported events about the graph's nodes: static lineage may be of one without an edge.
    """
    known = set(recorded) | {end for edge in graph.edges if edge not in producers for end in (edge.source, edge.target)}
    found: dict[str, dict[str, None]] = {}
    for edge, producer in producers.items():
        for end in {edge.source, edge.target} - known:
            found.setdefault(end, {})[producer] = None
    for one in imported:
        if one.told.is_static and one.told.step in graph.nodes - known:
            found.setdefault(one.told.step, {})[one.producer] = None
    return {node: ", ".join(names) for node, names in found.items()}


def imported_timeline(imported: Iterable[ImportedEvent], nodes: Collection[str]) -> list[TimelineEntry]:
    """Returns which runs other producers say began and ended among the nodes of a report."""
    return [
        TimelineEntry(
            time=one.told.time,
            what=f"{one.told.job}: {one.told.event_type.lower()}",
            who=one.producer,
            detail=f"imported from {one.producer}; nobody here saw it",
            subject=one.told.step,
        )
        for one in imported
        if one.told.step in nodes and one.is_transition
    ]
