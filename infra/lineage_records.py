"""Reads what the database holds about the subjects of a lineage graph."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from governance.lineage import Event, LineageGraph, step_subject
from governance.lineage_report.model import UNKNOWN
from governance.promotion.state import Promotion
from governance.withdrawal import Withdrawal
from infra.batched_rows import rows_by
from infra.imported_statements import ImportedEvent, read_imported
from infra.lineage import load_events
from infra.lineage_subjects import digest_of, run_of_step
from infra.promotion.records import promotion_of
from infra.tables import artifacts, assets, commitments, identities, model_versions, promotions, runs, steps
from infra.withdrawals import withdrawals_from


@dataclass(frozen=True, kw_only=True)
class Records:
    """Rows about the subjects of a graph, by subject or key.

    Attributes:
        runs: By run id.
        steps: By step subject; `record` is parsed.
        artifacts: By subject; `facts` is parsed.
        versions: By root digest, oldest first.
        assets: By media subject, oldest first.
        events: Those that groundswell emitted about the steps in the graph, in the order they were recorded.
        imported: Those of other producers about them, and about datasets in the graph.
        people: Identity id to name and role; to the id where the name was erased.
        conditions: Commitment to request, where it was not erased.
        withdrawals: By dataset's digest, oldest first.
        promotions: Requests that were applied, by the root digest of the package, oldest first.
    """

    runs: Mapping[str, Mapping[str, Any]]
    steps: Mapping[str, Mapping[str, Any]]
    artifacts: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, tuple[Mapping[str, Any], ...]]
    assets: Mapping[str, tuple[Mapping[str, Any], ...]]
    events: tuple[Event, ...]
    imported: tuple[ImportedEvent, ...]
    people: Mapping[str, str]
    conditions: Mapping[str, str]
    withdrawals: Mapping[str, tuple[Withdrawal, ...]]
    promotions: Mapping[str, tuple[Promotion, ...]] = field(default_factory=dict)

    def who(self, actor: str) -> str:
        """Returns how to name an actor: by name, or by identity id where the name was erased."""
        if actor == "system":
            return "the platform"
        return self.people.get(actor.removeprefix("identity:"), actor or UNKNOWN)

    def step_actor(self, subject: str) -> str:
        """Returns who started the run that a step belongs to."""
        run = self.runs.get(run_of_step(subject))
        return self.who(run["actor"]) if run else UNKNOWN

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects that have a row of their own."""
        packages = {f"package:{digest}" for digest in self.versions}
        return frozenset({*self.steps, *self.artifacts, *self.assets, *packages})

    def imported_about(self, node: str) -> tuple[ImportedEvent, ...]:
        """Returns what other producers tell of a step, or in static lineage of a dataset."""
        return tuple(one for one in self.imported if one.told.step == node)

    def last_event(self, subject: str) -> Event | None:
        """Returns the latest event that groundswell emitted about a step."""
        return next((event for event in reversed(self.events) if step_subject(event) == subject), None)


def read_records(connection: Connection, graph: LineageGraph, *, run_ids: Collection[str] = ()) -> Records:
    """Reads the rows about a graph's subjects.

    Args:
        connection: An open connection.
        graph: The graph.
        run_ids: Runs to read even if no step of theirs is in the graph.
    """
    step_subjects = {node for node in graph.nodes if node.startswith("step:")}
    digests = {digest_of(node) for node in graph.nodes - step_subjects}
    media = {digest_of(node) for node in graph.nodes if node.startswith("media:")}
    asset_rows = [dict(row) for row in rows_by(connection, assets, assets.c.sha256, media)]
    version_rows = [
        _parsed(row, "metrics", "inputs") for row in rows_by(connection, model_versions, model_versions.c.root_digest, digests)
    ]
    all_runs = (
        {run_of_step(subject) for subject in step_subjects}
        | set(run_ids)
        | {row["run_id"] for row in asset_rows + version_rows if row["run_id"]}
    )
    events = [event for event in load_events(connection, run_ids=all_runs) if step_subject(event) in step_subjects]
    run_rows = {row["run_id"]: _parsed(row, "params") for row in rows_by(connection, runs, runs.c.run_id, all_runs)}
    step_rows = [_parsed(row, "record") for row in rows_by(connection, steps, steps.c.run_id, all_runs)]
    artifact_rows = [_parsed(row, "facts") for row in rows_by(connection, artifacts, artifacts.c.digest, digests)]
    return Records(
        runs=run_rows,
        steps={f"step:{row['run_id']}/{row['step']}": row for row in step_rows},
        artifacts={f"{row['kind']}:{row['digest']}": row for row in artifact_rows},
        versions=_grouped(version_rows, "root_digest", ""),
        assets=_grouped(asset_rows, "sha256", "media:"),
        events=tuple(events),
        imported=read_imported(connection, all_runs, graph.nodes),
        people=_people(connection),
        conditions=_conditions(connection, {row["condition_commitment"] for row in asset_rows}),
        withdrawals=_withdrawals(connection, digests),
        promotions=_applied(connection, {row["root_digest"] for row in version_rows}),
    )


def _withdrawals(connection: Connection, digests: Collection[str]) -> dict[str, tuple[Withdrawal, ...]]:
    found: dict[str, tuple[Withdrawal, ...]] = {}
    for withdrawal in withdrawals_from(connection, digests):
        found[withdrawal.dataset] = (*found.get(withdrawal.dataset, ()), withdrawal)
    return found


def _applied(connection: Connection, root_digests: Collection[str]) -> dict[str, tuple[Promotion, ...]]:
    """Returns the requests that were applied, champions no longer too, oldest first, by the root digest of the package."""
    rows = [row for row in rows_by(connection, promotions, promotions.c.root_digest, root_digests) if row["lapses"] is not None]
    found: dict[str, tuple[Promotion, ...]] = {}
    for row in sorted(rows, key=lambda row: (row["requested"], row["promotion_id"])):
        found[row["root_digest"]] = (*found.get(row["root_digest"], ()), promotion_of(connection, row))
    return found


def _parsed(row: Mapping[str, Any], *columns: str) -> dict[str, Any]:
    return {**row, **{name: json.loads(row[name] or "{}") for name in columns}}


def _grouped(rows: Iterable[dict[str, Any]], key: str, prefix: str) -> dict[str, tuple[Mapping[str, Any], ...]]:
    found: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for row in sorted(rows, key=lambda row: str(row["created"])):
        found[prefix + row[key]] = (*found.get(prefix + row[key], ()), row)
    return found


def _people(connection: Connection) -> dict[str, str]:
    query = select(identities.c.identity_id, identities.c.role, commitments.c.value).outerjoin(
        commitments, commitments.c.commitment == identities.c.name_commitment
    )
    return {
        identity_id: f"{identity_id} (name erased, {role})" if name is None else f"{name} ({role})"
        for identity_id, role, name in connection.execute(query)
    }


def _conditions(connection: Connection, wanted: Iterable[str]) -> dict[str, str]:
    return {row["commitment"]: row["value"] for row in rows_by(connection, commitments, commitments.c.commitment, wanted)}
