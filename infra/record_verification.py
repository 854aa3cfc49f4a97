"""Whether the tables that the ledger describes say what the ledger says.

An entry's subject names a row; those keys of its details that are columns of the row must be equal to it. For a column that
holds JSON, ``<column>_digest`` may stand in its place: the digest of its canonical form. Later entries overrule earlier ones.
What entries of earlier releases did not say yet is not asked of them.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Table, select

from governance.canonical import canonical_digest
from governance.imported_lineage import ACTION as LINEAGE_IMPORTED
from governance.ledger import LedgerEntry
from infra.asset_verification import ACTION as ASSET_GENERATED
from infra.asset_verification import AssetChecker
from infra.attestations import statement_problems
from infra.commitment_verification import CommitmentChecker
from infra.key_verification import KeyChecker
from infra.lineage_verification import LineageChecker
from infra.promotion.verification import promotion_problems
from infra.record_comparison import Described, Key, all_rows, parsed, same, shown, stored_entries
from infra.record_statements import (
    ATTESTATIONS,
    CHAMPIONS,
    DESCRIBED,
    IDENTITIES,
    POLICIES,
    PROMOTIONS,
    RUNS,
    STEPS,
    VERSION,
    VERSIONS,
    WITHDRAWALS,
    Said,
    said_by,
)
from infra.spilled_mapping import SpilledMapping
from infra.tables import (
    artifacts,
    runs,
)

_BATCH = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SUBJECT = re.compile(r"(?<![a-z0-9_-])[a-z][a-z0-9_-]*:[0-9a-f]{64}(?![0-9a-f])", re.ASCII)


class RecordChecker:
    """Gathers what the entries say, in order, and compares the tables with it.

    Args:
        connection: A connection in the transaction that is verified.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._expected = {described.table.name: SpilledMapping() for described in DESCRIBED}
        self._artifacts = SpilledMapping()
        self._keys = KeyChecker()
        self._assets = AssetChecker(connection)
        self._commitments = CommitmentChecker(connection)
        self._lineage = LineageChecker(connection)

    def note(self, entry: LedgerEntry) -> Iterator[str]:
        """Takes in an entry; yields what is wrong with it by itself."""
        self._commitments.note(entry)
        self._lineage.note(entry)
        yield from self._keys.note(entry)
        if entry.action == ASSET_GENERATED:
            self._assets.note(entry)
            return
        if entry.action == "model.registered" and not VERSION.fullmatch(entry.subject):
            yield f"{entry.subject!r:.80} is no model version"
            return
        for said in said_by(entry):
            self._expect(said)
        for key, values in _artifacts_by(entry):
            if key not in self._artifacts:
                self._artifacts.put(key, dict(values))

    def flush(self) -> Iterator[str]:
        """Compares what need not wait for later entries, so that memory stays bounded; yields what is wrong."""
        yield from self._assets.flush()
        yield from self._lineage.flush()
        self._commitments.flush()

    def problems(self) -> Iterator[str]:
        """Yields every way in which the tables differ from what the entries said; to be asked at the end."""
        for described in (RUNS, STEPS, VERSIONS):
            yield from self._compare(described)
        yield from self._assets.problems()
        for described in (IDENTITIES, ATTESTATIONS, WITHDRAWALS, POLICIES, PROMOTIONS, CHAMPIONS):
            yield from self._compare(described)
        yield from self._compare_artifacts()
        yield from self._commitments.problems()
        yield from self._lineage.problems()
        yield from promotion_problems(self._connection)
        yield from statement_problems(self._connection, self._keys.known, self._keys.late_signer)

    def notices(self) -> Iterator[str]:
        """Yields what somebody who reads the verification should know, though nothing of it is wrong; to be asked at the end."""
        yield from self._keys.notices()

    def _expect(self, said: Said) -> None:
        expected = self._expected[said.table.table.name]
        known = expected.get(said.key) or {}
        for column in list(known) if said.overrules is None else said.overrules:
            known.pop(column, None)
        expected.put(said.key, {**known, **said.table.said(said.values)})

    def _compare(self, described: Described) -> Iterator[str]:
        expected = self._expected[described.table.name]
        num_found, previous = 0, None
        for row in all_rows(self._connection, described.table):
            key = described.key(row)
            said = expected.get(key)
            if described is ATTESTATIONS and hashlib.sha256(str(row["envelope"]).encode()).hexdigest() != row["digest"]:
                yield f"{described.name(key)}: its envelope is another"
            if said is None:
                if not (described is STEPS and self._is_unsaid(row)):
                    yield f"{described.name(key)} has a row but no entry"
                continue
            num_found, previous = num_found + (key != previous), key
            yield from described.differences(row, said)
        for key in self._without_row(described.table, expected, num_found):
            yield f"{described.name(key)} has an entry but no row"

    def _without_row(self, table: Table, expected: SpilledMapping, num_found: int) -> Iterator[Key]:
        """Yields the keys of which there is no row; the rows are read once more only where there are such keys."""
        if num_found < len(expected):
            present = {tuple(row) for row in self._connection.execute(select(*table.primary_key.columns))}
            yield from (key for key in expected.keys() if key not in present)  # noqa: SIM118  # it is no dict

    def _is_unsaid(self, step: Mapping[str, Any]) -> bool:
        """Says whether a step is one of an earlier release, which had no entry before the step's end."""
        run = self._expected[runs.name].get((step["run_id"],))
        return step["status"] == "running" and run is not None and "started" not in run

    def _compare_artifacts(self) -> Iterator[str]:
        mentioned = self._mentioned()
        num_found, previous = 0, None
        for row in all_rows(self._connection, artifacts):
            key = (row["digest"], row["kind"])
            name = f"artifact {row['kind']}:{row['digest']}"
            said = self._artifacts.get(key)
            if said is None and f"{row['kind']}:{row['digest']}" not in mentioned:
                yield f"{name} has a row but no entry"
            num_found, previous = num_found + (said is not None and key != previous), key
            for problem in _artifact_differences(row, said or {}):
                yield f"{name}: {problem}"
        for digest, kind in self._without_row(artifacts, self._artifacts, num_found):
            yield f"artifact {kind}:{digest} has an entry but no row"

    def _mentioned(self) -> set[str]:
        """Returns those artifacts of which no entry records that they came to be, but some entry names them.

        Entries of earlier releases do no more. The ledger is read once more for these alone, so that nothing is held for others.
        """
        columns = artifacts.c
        keys = self._connection.execute(select(columns.digest, columns.kind), execution_options={"yield_per": _BATCH})
        unsaid = {f"{kind}:{digest}" for digest, kind in keys if (digest, kind) not in self._artifacts}
        found: set[str] = set()
        if unsaid:
            for entry in stored_entries(self._connection):
                if entry.action not in {ASSET_GENERATED, LINEAGE_IMPORTED}:  # what others say they made vouches for nothing here
                    named = {entry.subject, f"package:{entry.details.get('root_digest')}", *_subjects(entry.details)}
                    found |= named & unsaid
        return found


def _artifacts_by(entry: LedgerEntry) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    """Yields the artifacts that an entry records where none before it did, and what it says of their rows."""
    details = entry.details
    kind, _, rest = entry.subject.partition(":")
    if entry.action == f"{kind}.imported" and _DIGEST.fullmatch(rest):
        listed, digests = details.get("artifacts"), details.get("facts_digests")
        for subject in listed if isinstance(listed, list) else ():
            digest = digests.get(subject) if isinstance(digests, dict) else None
            yield _artifact_key(subject), {} if digest is None else {"facts_digest": digest, "created": details.get("created")}
        yield (rest, kind), details
    elif entry.action == "step.completed" and isinstance(details.get("outputs"), dict):
        said = {"facts_digest": details["facts_digest"], "created": details.get("ended")} if "facts_digest" in details else {}
        yield from ((_artifact_key(output), said) for output in details["outputs"].values())
    elif entry.action == "model.registered" and "created" in details:
        facts = {"facts_digest": canonical_digest({"name": details.get("name")}), "created": details["created"]}
        yield _artifact_key(f"package:{details.get('root_digest')}"), facts


def _artifact_key(subject: Any) -> Key:
    kind, _, digest = str(subject).partition(":")
    return (digest, kind)


def _artifact_differences(row: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[str]:
    facts = parsed(row["facts"])
    if not isinstance(facts, dict):
        yield "its facts are no JSON"
        return
    for fact, value in said.items():
        if fact == "facts_digest":
            if canonical_digest(facts, floats=True) != value:
                yield "its facts are not those that the ledger has the digest of"
        elif fact == "created":
            if row["created"] != value:
                yield f"created is {shown(row['created'])}, the ledger says {shown(value)}"
        elif fact in facts and not same(facts[fact], value):
            yield f"{fact} is {shown(facts[fact])}, the ledger says {shown(value)}"


def _subjects(value: Any) -> Iterator[str]:
    """Yields the artifacts that a value of an entry names."""
    if isinstance(value, str):
        yield from _SUBJECT.findall(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _SUBJECT.findall(key)
            yield from _subjects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _subjects(item)
