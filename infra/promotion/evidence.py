"""What is on record about a candidate, gathered for the gates of a policy."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from governance.errors import GovernanceError
from governance.model_records import licences_behind
from governance.promotion.gates import Difference, Evidence
from governance.promotion.non_inferiority import compare
from governance.promotion.policy import Policy
from infra.lineage_graph import read_graph
from infra.lineage_records import read_records
from infra.lineage_sections import open_questions
from infra.lineage_subjects import graph_node
from infra.model_package import ModelPackage
from infra.model_versions import ModelVersion
from infra.tables import artifacts, runs, steps
from infra.withdrawal_reach import num_withdrawn, withdrawals_reaching

_TRAINING = ("train_dit", "finetune_dit")


def gather_evidence(
    connection: Connection,
    version: ModelVersion,
    package: ModelPackage,
    champion: ModelPackage | None,
    policy: Policy,
    *,
    now: datetime,
) -> Evidence:
    """Returns what is on record about a candidate.

    Args:
        connection: An open connection.
        version: The candidate.
        package: Its package, verified.
        champion: The champion's package, verified; None where there is none.
        policy: The policy that is to judge it.
        now: The time.
    """
    data = package.config.get("training_data", {})
    licences = licences_behind(package.config)
    return Evidence(
        metrics=version.metrics,
        differences=_differences(package, champion, policy) if champion is not None else None,
        licences=tuple(sorted(map(str, licences))) if licences else None,
        age_s=_age_s(connection, version, now),
        validation=_validation(connection, str(data.get("validation_digest", ""))),
        open_questions=unanswered(connection, version.subject),
        withdrawn_items=num_withdrawn(connection, withdrawals_reaching(connection, version.subject)),
        package={"root_digest": package.root_digest, "num_files": len(package.digests)},
    )


def unanswered(connection: Connection, subject: str) -> tuple[str, ...]:
    """Returns what is not recorded about a model version and what it was made from."""
    node = graph_node(connection, subject)
    graph, _ = read_graph(connection, subject, node)
    records = read_records(connection, graph)
    return open_questions(sorted({node, *graph.upstream(node)}), records, left_out=0)


def trainers_of(connection: Connection, run_id: str | None) -> tuple[str, ...]:
    """Returns who ran the run that registered a version, and those in which it was trained, where that run took up their work."""
    own = select(steps.c.fingerprint).where(steps.c.run_id == run_id, steps.c.step.in_(_TRAINING))
    trained = select(steps.c.run_id).where(steps.c.fingerprint.in_(own), steps.c.status == "completed")
    query = select(runs.c.actor).where((runs.c.run_id == run_id) | runs.c.run_id.in_(trained)).distinct().order_by(runs.c.actor)
    return tuple(connection.execute(query).scalars())


def _differences(package: ModelPackage, champion: ModelPackage, policy: Policy) -> Mapping[str, Difference]:
    reports = package.evaluation, champion.evaluation
    found = {}
    for rule in policy.gates.non_inferiority:
        try:
            one = compare(*reports, rule.metric, better=rule.better, margin=rule.margin, confidence=rule.confidence)
        except GovernanceError as error:
            found[rule.metric] = Difference(problem=error.diagnosis)
        else:
            values = {name: getattr(one, name) for name in ("candidate", "champion", "difference", "low", "high")}
            found[rule.metric] = Difference(**values)
    return found


def _age_s(connection: Connection, version: ModelVersion, now: datetime) -> float | None:
    """Returns how long ago the evaluation was made; that of its registration where its own time is not on record."""
    digest = version.inputs.get("evaluation", "")
    created = _artifact(connection, digest, "evaluation").get("created") or version.created
    try:
        return (now - datetime.fromisoformat(created)).total_seconds()
    except ValueError:
        return None


def _validation(connection: Connection, digest: str) -> dict[str, Any] | None:
    """Returns what is on record of a validation; only one that passed is."""
    row = _artifact(connection, digest, "validation")
    if not row:
        return None
    facts = json.loads(row["facts"])
    return {"digest": digest, "num_assertions": len(facts.get("assertions", ())), "warnings": facts.get("warnings", [])}


def _artifact(connection: Connection, digest: str, kind: str) -> Mapping[str, Any]:
    columns = artifacts.c
    query = select(columns.created, columns.facts).where(columns.digest == digest, columns.kind == kind)
    row = connection.execute(query).mappings().first()
    return dict(row) if row else {}
