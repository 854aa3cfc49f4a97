"""What an entry of the ledger says of the rows of tables."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from governance.ledger import LedgerEntry
from infra.record_comparison import Described, Key
from infra.tables import (
    attestations,
    champions,
    identities,
    model_versions,
    policies,
    promotions,
    runs,
    steps,
    withdrawals,
)

_RUN_STATUS = {"run.started": "running", "run.completed": "completed", "run.failed": "failed", "run.interrupted": "interrupted"}
_RUN_END = {"ended", "error", "error_digest", "overhead_s"}
_RUN_NOT_ENDED = dict.fromkeys(("ended", "error", "overhead_s"))
VERSION = re.compile(r"model-version:(?P<name>.+)/(?P<version>[1-9][0-9]{0,17})", re.ASCII | re.DOTALL)

RUNS = Described(
    table=runs,
    noun="run",
    columns=frozenset({"pipeline", "status", "runner", "params", "actor", "started", "ended", "error", "overhead_s"}),
)
STEPS = Described(
    table=steps,
    noun="step",
    columns=frozenset({"status", "fingerprint", "record", "started", "ended", "work_s", "error", "mlflow_run_id"}),
)
VERSIONS = Described(
    table=model_versions,
    noun="model version",
    columns=frozenset({"root_digest", "run_id", "metrics", "inputs", "mlflow_model_id", "location", "created"}),
)
IDENTITIES = Described(
    table=identities,
    noun="identity",
    columns=frozenset({"name_commitment", "role", "public_key_pem", "created", "revoked"}),
)
ATTESTATIONS = Described(
    table=attestations,
    noun="attestation",
    columns=frozenset({"kind", "subject", "run_id", "signer", "envelope", "created"}),
)
POLICIES = Described(table=policies, noun="policy", columns=frozenset({"digest", "document", "actor", "created"}))
_ONE_ROW: dict[str, tuple[Described, Callable[[LedgerEntry], dict[str, Any]]]] = {
    "identity.created": (IDENTITIES, lambda _: {"revoked": None}),
    "identity.revoked": (IDENTITIES, lambda entry: {"revoked": entry.time}),
    "attestation.signed": (ATTESTATIONS, lambda entry: {"run_id": entry.run_id}),
    "policy.set": (POLICIES, lambda entry: {"actor": entry.actor}),
}
WITHDRAWALS = Described(table=withdrawals, noun="withdrawal", columns=frozenset({"reason_commitment", "actor", "created"}))
PROMOTIONS = Described(
    table=promotions,
    noun="request",
    columns=frozenset(column.name for column in promotions.columns) - {"promotion_id"},
)
CHAMPIONS = Described(
    table=champions,
    noun="champion",
    columns=frozenset({"version", "root_digest", "promotion_id", "since", "expires", "entry_index"}),
)
DESCRIBED = (RUNS, STEPS, VERSIONS, IDENTITIES, ATTESTATIONS, WITHDRAWALS, POLICIES, PROMOTIONS, CHAMPIONS)
_REQUESTED = frozenset({"promotion.requested", "promotion.gated"})
_CROWNED = frozenset({"promotion.applied", "promotion.restored"})
_UNSTORED = "promotion.refused"
_CHANGED = ("state", "previous", "changed", "lapses")


@dataclass(frozen=True, kw_only=True)
class Said:
    """What an entry says of a row.

    Attributes:
        table: The row's table.
        key: The row's key.
        values: What it says, by column.
        overrules: Columns of which nothing holds any longer that was said before; all of them where None.
    """

    table: Described
    key: Key
    values: Mapping[str, Any]
    overrules: frozenset[str] | None = frozenset()


def said_by(entry: LedgerEntry) -> list[Said]:
    """Returns what an entry says, row by row."""
    details = entry.details
    kind, _, rest = entry.subject.partition(":")
    if kind == "run" and entry.action in _RUN_STATUS:
        return [_of_run(entry, rest)]
    if kind == "step" and entry.action.startswith("step."):
        run_id, _, step = rest.partition("/")
        values = {**_step_values(entry.action), **details}
        return [Said(table=STEPS, key=(run_id, step), values=values, overrules=None)]
    if found := VERSION.fullmatch(entry.subject):
        return _of_version(entry, found["name"], int(found["version"]))
    if entry.action in _ONE_ROW:
        described, known = _ONE_ROW[entry.action]
        key = (rest, details.get("number")) if described is POLICIES else (rest,)
        return [Said(table=described, key=key, values={**known(entry), **details})]
    if entry.action == "dataset.withdrawn":
        values = {**details, "actor": entry.actor}
        return [Said(table=WITHDRAWALS, key=(rest, item), values=values) for item in details.get("items") or ()]
    return []


def _of_version(entry: LedgerEntry, name: str, version: int) -> list[Said]:
    """Returns what an entry about a model version says of it, or of its way into an environment."""
    if entry.action == "model.registered":
        return [Said(table=VERSIONS, key=(name, version), values={"run_id": entry.run_id, **entry.details})]
    if entry.action.startswith("promotion.") and entry.action != _UNSTORED:
        return _of_promotion(entry, name, version)
    return []


def _of_promotion(entry: LedgerEntry, name: str, version: int) -> list[Said]:
    """Returns what an entry says of a request and, where it puts a champion in, of the champion."""
    details = entry.details
    if entry.action in _REQUESTED:
        values = {**details, "name": name, "version": version}
        return [Said(table=PROMOTIONS, key=(details.get("promotion"),), values=values)]
    changed = {column: details[column] for column in _CHANGED if column in details}
    said = [Said(table=PROMOTIONS, key=(details.get("promotion"),), values=changed)]
    if entry.action in _CROWNED:
        crowned = {
            "version": version,
            "root_digest": details.get("root_digest"),
            "promotion_id": details.get("promotion"),
            "since": details.get("since"),
            "expires": details.get("lapses"),
            "entry_index": entry.index,
        }
        said.append(Said(table=CHAMPIONS, key=(name, details.get("environment")), values=crowned, overrules=None))
    return said


def _of_run(entry: LedgerEntry, run_id: str) -> Said:
    values = {name: value for name, value in entry.details.items() if name != "actor"} | {"status": _RUN_STATUS[entry.action]}
    if entry.action == "run.started":
        return Said(table=RUNS, key=(run_id,), values={**_RUN_NOT_ENDED, **values, "actor": entry.actor})
    if entry.action == "run.completed":
        values = {"error": None, **values}
    return Said(table=RUNS, key=(run_id,), values=values, overrules=frozenset(_RUN_END))


def _step_values(action: str) -> dict[str, Any]:
    """Returns what follows from a step's action alone."""
    status = action.partition(".")[2]
    if status == "started":
        return {"status": "running", **dict.fromkeys(("ended", "work_s", "error", "record", "mlflow_run_id"))}
    return {"status": status, ("error" if status in {"completed", "reused"} else "record"): None}
