"""Collects what a lineage report says about a subject, from the database and, for pictures, from the home."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from governance.errors import UnknownSubjectError
from governance.imported_lineage import as_imported, import_subject
from governance.lineage import Edge, LineageGraph
from governance.lineage_report.model import DataSource, ReportContent
from infra.database import Database
from infra.imported_statements import imported_nodes, producers_of
from infra.lineage_graph import collapse_media, in_order, read_graph
from infra.lineage_ledger import read_ledger, verified
from infra.lineage_nodes import describe
from infra.lineage_pictures import LOSS_CAPTION, read_pictures
from infra.lineage_plots import read_curves, read_estimates
from infra.lineage_records import Records, read_records
from infra.lineage_sections import (
    check_tables,
    code_facts,
    data_sources,
    environments,
    metric_tables,
    open_questions,
    parameter_tables,
    timeline,
)
from infra.lineage_statements import read_statements
from infra.lineage_subjects import graph_node, resolve_subject, run_of_step
from infra.lineage_summary import summarise, title_of

__all__ = ["build_report", "resolve_subject"]


def build_report(db: Database, subject: str, *, home: Path, media: Path | None = None) -> ReportContent:
    """Collects everything recorded about where a subject came from and what was made from it.

    The same database gives the same content: the report is dated by the ledger, not by a clock.

    Args:
        db: The database.
        subject: A subject string, as `resolve_subject` returns it.
        home: The home, for the log's public key and for pictures.
        media: The media file asked about, where there is one: shown if its digest is the subject's.

    Raises:
        UnknownSubjectError: There is no record of the subject.
    """
    with db.read() as connection:
        node = graph_node(connection, subject)
        graph, left_out = read_graph(connection, subject, node)
        run_ids = [subject.removeprefix("run:")] if subject.startswith("run:") else []
        records = read_records(connection, graph, run_ids=run_ids)
        _check_known(subject, node, graph, records)
        drawn, groups = collapse_media(graph, keep=node)
        subjects = _ledger_subjects(subject, graph, records, run_ids)
        statements = read_statements(connection, subjects, records)
        subjects |= {f"attestation:{one.digest}" for one in statements}
        ledger = read_ledger(connection, subjects)
        pictures = read_pictures(records, graph, node, home=home, media=media)
    ledger = verified(db, ledger, home=home)
    producers = producers_of(records.imported, records.events, graph)
    foreign = imported_nodes(producers, graph, records.subjects, records.imported)
    own = LineageGraph(set(graph.edges) - producers.keys(), nodes=graph.nodes - foreign.keys())
    importers = {line.subject: line.actor for line in ledger.entries if line.action.endswith(".imported")}
    ordered = in_order(drawn)
    curves = read_curves(ordered, records, home=home)
    upstream, further = _upstream(own, node), _upstream(graph, node)
    return ReportContent(
        subject=subject,
        kind=subject.partition(":")[0],
        title=title_of(subject, records),
        summary=summarise(subject, node, own, records, more=further, producers=_named(producers)),
        highlight=node,
        nodes=tuple(
            describe(name, records, members=groups.get(name, ()), imported_from=foreign.get(name, "")) for name in ordered
        ),
        edges=drawn.edges,
        timeline=timeline(subject, ordered, records, importers=importers),
        data=(*data_sources(upstream, records), *_data_by_others(upstream, further, records, producers)),
        checks=check_tables(ordered, records),
        metrics=metric_tables(ordered, records),
        code=code_facts(ordered, records),
        environments=environments(ordered, records),
        parameters=parameter_tables(ordered, records),
        pictures=tuple(picture for picture in pictures if not (curves and picture.caption == LOSS_CAPTION)),
        ledger=ledger,
        open_questions=open_questions(upstream, records, left_out=left_out),
        events=(*records.events, *(as_imported(one.event, one.file_sha256) for one in records.imported)),
        curves=curves,
        estimates=read_estimates(ordered, records),
        statements=statements,
        imported=tuple(one.statement() for one in records.imported),
        imported_edges={edge: producers[edge] for edge in drawn.edges if edge in producers},
    )


def _named(producers: Mapping[Edge, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(producers.values()))


def _data_by_others(
    own: Sequence[str], every: Sequence[str], records: Records, producers: Mapping[Edge, str]
) -> Iterator[DataSource]:
    """Yields the datasets that the subject goes back to by the word of other producers alone."""
    names = ", ".join(_named(producers))
    for source in data_sources([node for node in every if node not in own], records):
        yield dataclasses.replace(source, imported_from=names)


def _check_known(subject: str, node: str, graph: LineageGraph, records: Records) -> None:
    is_recorded = node in records.artifacts or node in records.assets or subject.removeprefix("run:") in records.runs
    if not (graph.edges or is_recorded or records.imported):
        raise UnknownSubjectError(
            f"there is no record of {subject:.200}", hint="`groundswell runs list` and `models list` show what is recorded"
        )


def _upstream(graph: LineageGraph, node: str) -> Sequence[str]:
    """Returns what the subject was made from, and itself; for a run, everything drawn."""
    return in_order(graph.restricted_to({node} | graph.upstream(node)) if node else graph)


def _ledger_subjects(subject: str, graph: LineageGraph, records: Records, run_ids: Sequence[str]) -> set[str]:
    """Returns the subjects whose ledger entries belong in the report."""
    found = {subject, *graph.nodes, *(f"run:{run_id}" for run_id in run_ids)}
    found |= {f"run:{run_of_step(node)}" for node in graph.nodes if node.startswith("step:")}
    found |= {import_subject(one.file_sha256) for one in records.imported}
    found |= {f"model-version:{row['name']}/{row['version']}" for versions in records.versions.values() for row in versions}
    return found
