"""Compares what two model versions were made from, as it was recorded here; other producers' events are left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from governance.lineage import LineageGraph
from governance.lineage_diff import ABSENT, ItemChanges, LineageDiff, Origin, compare_items, compare_origins
from infra.database import Database
from infra.imported_statements import producers_of
from infra.lineage import upstream_of_each
from infra.lineage_graph import redundant_steps
from infra.lineage_records import Records, read_records
from infra.lineage_subjects import digest_of, run_of_step
from infra.model_versions import ModelVersion
from infra.recorded_datasets import RecordedDataset, look_into, recorded_datasets
from infra.tables import commitments, withdrawals

_ENVIRONMENT = ("lock_digest", "image", "image_digest", "python", "platform", "accelerator", "host")
_DATA = ("num_items", "num_train", "num_holdout", "licences", "sources", "importer")
_MADE = ("validation", "codec", "latents", "model", "evaluation")


def diff_lineage(db: Database, first: ModelVersion, second: ModelVersion, *, datasets: Path) -> LineageDiff:
    """Returns what differs between the lineages of two model versions.

    Args:
        db: The database.
        first: One.
        second: The other.
        datasets: The home's folder of datasets, to look into those whose items differ.

    Raises:
        BackendUnavailableError: The database is locked or gone.
    """
    versions = (first, second)
    with db.read() as connection:
        one, other = (
            _origin(connection, version, graph) for version, graph in zip(versions, _graphs(connection, versions), strict=True)
        )
        pairs = _changed_datasets(connection, one, other)
        withdrawn = _withdrawn(connection, [dataset.digest for pair in pairs for dataset in pair])
    items = [_compare(pair, withdrawn, datasets) for pair in pairs]
    return compare_origins(one, other, items)


def _graphs(connection: Connection, versions: Sequence[ModelVersion]) -> Sequence[LineageGraph]:
    return upstream_of_each(connection, [f"package:{version.root_digest}" for version in versions])


def _origin(connection: Connection, version: ModelVersion, graph: LineageGraph) -> Origin:
    package = f"package:{version.root_digest}"
    records = read_records(connection, graph)
    producers = producers_of(records.imported, records.events, graph)
    own = LineageGraph(set(graph.edges) - producers.keys(), nodes=[package])
    own = own.restricted_to(own.nodes - redundant_steps(connection, own))
    direct = _without_codecs(own, package)
    steps = _steps(direct, records, version)
    configs = {f"{name}.": row["record"]["config"] for name, row in steps.items() if "config" in _record(row)}
    parameters = {
        f"{step}{key}": ABSENT if value is None else value for step, config in configs.items() for key, value in config.items()
    }
    data = _data(direct, records)
    whole = {(title, step) for title in ("seeds", "parameters") for step in configs} | ({("data", "")} if data else set())
    return Origin(
        name=f"{version.name}/{version.version}",
        package=version.root_digest,
        sections={
            "data": data,
            "data behind the codec": _data(own.upstream(package) - direct, records),
            "made on the way": _made(direct),
            "source": _source(steps),
            "environment": _environment(steps),
            "seeds": {name: value for name, value in parameters.items() if _is_seed(name)},
            "parameters": {name: value for name, value in parameters.items() if not _is_seed(name)},
            "evaluation": dict(version.metrics),
        },
        whole=frozenset(whole),
        producers=tuple(dict.fromkeys(producers.values())),
    )


def _without_codecs(graph: LineageGraph, node: str) -> frozenset[str]:
    """Returns what a node was made from, without the codecs' past."""
    pruned = LineageGraph(edge for edge in graph.edges if not edge.target.startswith("codec:"))
    return pruned.upstream(node)


def _steps(nodes: frozenset[str], records: Records, version: ModelVersion) -> dict[str, Mapping[str, Any]]:
    """Returns the steps' rows by name; of several of a name the one of the registering run, otherwise the first."""
    found: dict[str, Mapping[str, Any]] = {}
    for node in sorted(nodes, key=lambda name: (records.steps.get(name, {}).get("started", ""), name)):
        if not node.startswith("step:"):
            continue
        name, row = node.rpartition("/")[2], records.steps.get(node, {})
        if name not in found or run_of_step(node) == version.run_id:
            found[name] = row
    return dict(sorted(found.items()))


def _data(nodes: frozenset[str], records: Records) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for subject in sorted(node for node in nodes if node.startswith("dataset:")):
        recorded = records.artifacts.get(subject, {}).get("facts", {})
        name = recorded.get("name") or subject[:20]
        facts[name] = digest_of(subject)
        facts |= {f"{name}: {key.replace('_', ' ')}": recorded.get(key) for key in _DATA}
        withdrawn = records.withdrawals.get(digest_of(subject), ())
        facts[f"{name}: items withdrawn since"] = sum(one.num_items for one in withdrawn)
    return facts


def _made(nodes: frozenset[str]) -> dict[str, Any]:
    found: dict[str, list[str]] = {kind: [] for kind in _MADE}
    for node in sorted(nodes):
        kind, _, digest = node.partition(":")
        if kind in found:
            found[kind].append(digest)
    return {kind: ", ".join(digests) or None for kind, digests in found.items()}


def _source(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    facts: dict[str, Any] = {f"{name}: code digest": _record(row).get("code_digest") for name, row in steps.items()}
    return {"revision": _of_all(steps, "revision"), **facts}


def _environment(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {key.replace("_", " "): _of_all(steps, key) for key in _ENVIRONMENT}


def _of_all(steps: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    """Returns what all steps ran in, or which step in what where they differ; None where that is known of none."""
    values = {name: _record(row).get("environment", {}).get(key) for name, row in steps.items()}
    different = set(values.values())
    return different.pop() if len(different) == 1 else {name: value or "unknown" for name, value in values.items()} or None


def _record(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return row.get("record") or {}


def _is_seed(name: str) -> bool:
    return name.rpartition(".")[2].endswith("seed")


def _changed_datasets(connection: Connection, one: Origin, other: Origin) -> list[tuple[RecordedDataset, RecordedDataset]]:
    """Returns the datasets of the same name that have different digests."""
    first, second = (origin.sections["data"] for origin in (one, other))
    changed = [(first[name], second[name]) for name in first if name in second and first[name] != second[name]]
    wanted = {digest for pair in changed for digest in pair if isinstance(digest, str)}
    known = {dataset.digest: dataset for dataset in recorded_datasets(connection, wanted)}
    return [(known[a], known[b]) for a, b in changed if a in known and b in known]


def _withdrawn(connection: Connection, digests: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """Returns when and why each item that was withdrawn from some datasets was, by SHA-256."""
    columns = withdrawals.c
    query = (
        select(columns.item, columns.created, commitments.c.value)
        .select_from(withdrawals.outerjoin(commitments, columns.reason_commitment == commitments.c.commitment))
        .where(columns.dataset.in_(sorted(digests)))
        .order_by(columns.created.desc())
    )
    return {item: (created, reason) for item, created, reason in connection.execute(query)}


def _compare(
    pair: tuple[RecordedDataset, RecordedDataset], withdrawn: Mapping[str, tuple[str, str | None]], datasets: Path
) -> ItemChanges:
    first, second = (look_into(dataset, datasets=datasets) for dataset in pair)
    return compare_items(second.name, (first.digest, second.digest), (first.splits, second.splits), withdrawn)
