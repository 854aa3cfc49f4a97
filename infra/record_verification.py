"""Whether the tables that the ledger describes say what the ledger says.

An entry's subject names a row; those keys of its details that are columns of the row must be equal to it. For a column that
holds JSON, ``<column>_digest`` may stand in its place: the digest of its canonical form. Later entries overrule earlier ones.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, select

from governance.canonical import canonical_digest, decimals
from governance.dsse import key_id
from governance.errors import BadRecordError
from governance.ledger import LedgerEntry
from infra.attestations import statement_problems
from infra.tables import artifacts, assets, attestations, identities, model_versions, runs, steps, withdrawals

_RUN_STATUS = {"run.started": "running", "run.completed": "completed", "run.failed": "failed", "run.interrupted": "interrupted"}
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", re.ASCII)
_VERSION = re.compile(r"model-version:(?P<name>.+)/(?P<version>[1-9][0-9]{0,17})", re.ASCII | re.DOTALL)
_BATCH = 1000

Key = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class _Described:
    """A table whose rows the ledger describes.

    Attributes:
        table: The table.
        noun: What a row is, for a problem's line.
        columns: Columns that entries may describe.
    """

    table: Table
    noun: str
    columns: frozenset[str]

    def key(self, row: Mapping[str, Any]) -> Key:
        return tuple(row[column.name] for column in self.table.primary_key.columns)


_RUNS = _Described(table=runs, noun="run", columns=frozenset({"pipeline", "status", "runner", "params", "actor"}))
_STEPS = _Described(table=steps, noun="step", columns=frozenset({"status", "fingerprint", "record"}))
_VERSIONS = _Described(
    table=model_versions,
    noun="model version",
    columns=frozenset({"root_digest", "run_id", "metrics", "inputs", "mlflow_model_id", "location"}),
)
_ASSETS = _Described(
    table=assets,
    noun="asset",
    columns=frozenset({"model_name", "model_version", "root_digest", "seed", "condition_commitment", "file_name"}),
)
_IDENTITIES = _Described(
    table=identities,
    noun="identity",
    columns=frozenset({"name_commitment", "role", "public_key_pem", "created", "revoked"}),
)
_ATTESTATIONS = _Described(
    table=attestations,
    noun="attestation",
    columns=frozenset({"kind", "subject", "run_id", "signer", "envelope"}),
)
_WITHDRAWALS = _Described(table=withdrawals, noun="withdrawal", columns=frozenset({"reason_commitment", "actor", "created"}))
_Said = tuple[_Described, Key, Mapping[str, Any]]


@dataclass
class RecordChecker:
    """Gathers what the entries say, in order, and compares the tables with it."""

    _expected: dict[str, dict[Key, dict[str, Any]]] = field(default_factory=dict)
    _artifacts: dict[Key, dict[str, Any]] = field(default_factory=dict)
    _mentioned: set[str] = field(default_factory=set)
    _keys: dict[str, str] = field(default_factory=dict)

    def note(self, entry: LedgerEntry) -> Iterator[str]:
        """Takes in an entry; yields what is wrong with it by itself."""
        self._mentioned.update(_digests(entry.details))
        kind, _, rest = entry.subject.partition(":")
        if kind in {"key", "identity"} and isinstance(pem := entry.details.get("public_key_pem"), str):
            self._keys[key_id(pem)] = pem
        if entry.action == "model.registered" and not _VERSION.fullmatch(entry.subject):
            yield f"{entry.subject!r:.80} is no model version"
            return
        for described, key, details in _said_by(entry, kind, rest):
            self._expect(described, key, details)
        if entry.action.endswith(".imported"):
            self._mentioned.update(_digests(rest))
            self._artifacts.setdefault((rest, kind), {}).update(entry.details)
        if entry.action == "step.completed":
            self._note_outputs(entry.details.get("outputs"))

    def problems(self, connection: Connection) -> Iterator[str]:
        """Yields every way in which the tables differ from what the entries said."""
        for described in (_RUNS, _STEPS, _VERSIONS, _ASSETS, _IDENTITIES, _ATTESTATIONS, _WITHDRAWALS):
            expected = self._expected.get(described.table.name, {})
            yield from _compare(connection, described, expected)
        yield from self._compare_artifacts(connection)
        yield from statement_problems(connection, self._keys)

    def _note_outputs(self, outputs: Any) -> None:
        for output in outputs.values() if isinstance(outputs, dict) else ():
            if isinstance(output, str):
                kind, _, digest = output.partition(":")
                self._artifacts.setdefault((digest, kind), {})

    def _expect(self, described: _Described, key: Key, details: Mapping[str, Any]) -> None:
        rows = self._expected.setdefault(described.table.name, {})
        rows.setdefault(key, {}).update(
            {
                name: value
                for name, value in details.items()
                if name.removesuffix("_digest") in described.columns or name in described.columns
            }
        )

    def _compare_artifacts(self, connection: Connection) -> Iterator[str]:
        missing = dict.fromkeys(self._artifacts)
        for row in _rows(connection, artifacts):
            key = (row["digest"], row["kind"])
            name = f"artifact {row['kind']}:{row['digest']}"
            if key not in self._artifacts and row["digest"] not in self._mentioned:
                yield f"{name} has a row but no entry"
            missing.pop(key, None)
            try:
                facts = json.loads(row["facts"])
            except (ValueError, TypeError):
                yield f"{name}: its facts are no JSON"
                continue
            for fact, value in self._artifacts.get(key, {}).items():
                if isinstance(facts, dict) and fact in facts and not _same(facts[fact], value):
                    yield f"{name}: {fact} is {_shown(facts[fact])}, the ledger says {_shown(value)}"
        for digest, kind in missing:
            yield f"artifact {kind}:{digest} has an entry but no row"


def _said_by(entry: LedgerEntry, kind: str, rest: str) -> list[_Said]:
    """Returns the rows that an entry describes, and what it says of them."""
    details = entry.details
    if kind == "run" and entry.action in _RUN_STATUS:
        values = {name: value for name, value in details.items() if name != "actor"} | {"status": _RUN_STATUS[entry.action]}
        return [(_RUNS, (rest,), values | ({"actor": entry.actor} if entry.action == "run.started" else {}))]
    if kind == "step" and entry.action.startswith("step."):
        run_id, _, step = rest.partition("/")
        return [(_STEPS, (run_id, step), {"status": entry.action.partition(".")[2], **details})]
    found = _VERSION.fullmatch(entry.subject)
    if found and entry.action == "model.registered":
        return [(_VERSIONS, (found["name"], int(found["version"])), {"run_id": entry.run_id, **details})]
    one_row: dict[str, _Said] = {
        "asset.generated": (_ASSETS, (rest, entry.run_id, details.get("position")), {}),
        "identity.created": (_IDENTITIES, (rest,), {"revoked": None}),
        "identity.revoked": (_IDENTITIES, (rest,), {"revoked": entry.time}),
        "attestation.signed": (_ATTESTATIONS, (rest,), {"run_id": entry.run_id}),
    }
    if entry.action in one_row:
        described, key, known = one_row[entry.action]
        return [(described, key, {**known, **details})]
    if entry.action == "dataset.withdrawn":
        return [(_WITHDRAWALS, (rest, item), {**details, "actor": entry.actor}) for item in details.get("items") or ()]
    return []


def _compare(connection: Connection, described: _Described, expected: Mapping[Key, Mapping[str, Any]]) -> Iterator[str]:
    missing = dict.fromkeys(expected)
    for row in _rows(connection, described.table):
        key = described.key(row)
        name = f"{described.noun} {'/'.join(map(str, key))}"
        if key not in expected:
            if not (described is _STEPS and row["status"] == "running"):  # its entry comes when it ends
                yield f"{name} has a row but no entry"
            continue
        missing.pop(key, None)
        for column, value in expected[key].items():
            if not _says(row, column, value):
                shown = row.get(column, row.get(column.removesuffix("_digest")))
                yield f"{name}: {column} is {_shown(shown)}, the ledger says {_shown(value)}"
    for key in missing:
        yield f"{described.noun} {'/'.join(map(str, key))} has an entry but no row"


def _says(row: Mapping[str, Any], column: str, value: Any) -> bool:
    if column in row:
        return _same(row[column], value) or (isinstance(value, dict | list) and _same(_json(row[column]), value))
    try:
        return bool(canonical_digest(_json(row[column.removesuffix("_digest")]), floats=True) == value)
    except BadRecordError:
        return False


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _same(stored: Any, said: Any) -> bool:
    """Compares by value and type, floats as the decimal strings that stand for them in the ledger."""
    stored_text, said_text = (json.dumps(v, sort_keys=True, default=repr) for v in (decimals(stored), said))
    return stored_text == said_text


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _DIGEST.findall(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _DIGEST.findall(key)
            yield from _digests(item)
    elif isinstance(value, list):
        for item in value:
            yield from _digests(item)


def _rows(connection: Connection, table: Table) -> Iterator[Mapping[str, Any]]:
    order = list(table.primary_key.columns)
    result = connection.execute(select(table).order_by(*order), execution_options={"yield_per": _BATCH})
    for row in result:
        yield dict(zip(table.columns.keys(), row, strict=True))


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 70 else f"{text[:67]}...")
