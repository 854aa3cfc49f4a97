"""The signed statements about the subjects of a lineage report, each verified again with the keys that the ledger names."""

import hashlib
from collections import deque
from collections.abc import Collection, Mapping

from sqlalchemy import Connection

from governance import dsse
from governance.errors import IntegrityError
from governance.ledger import parse_entry
from governance.lineage_report.model import SignedStatement
from governance.platform_keys import CREATED, REVOKED, ROTATED
from governance.provenance import parse_provenance
from infra.attestations import PROVENANCE
from infra.batched_rows import rows_by
from infra.key_verification import KeyChecker
from infra.lineage_records import Records
from infra.tables import attestations, ledger_entries

_KEY_ACTIONS = (CREATED, ROTATED, REVOKED, "identity.created", "identity.revoked")


def read_statements(connection: Connection, subjects: Collection[str], records: Records) -> tuple[SignedStatement, ...]:
    """Returns the signed statements about some subjects, oldest first.

    Args:
        connection: An open connection.
        subjects: Subject strings.
        records: What the database holds, for the names of signers.
    """
    rows = sorted(
        rows_by(connection, attestations, attestations.c.subject, subjects), key=lambda row: (row["created"], row["digest"])
    )
    keys = _noted_keys(connection, {row["digest"] for row in rows})
    return tuple(_statement(row, keys, records) for row in rows)


def _noted_keys(connection: Connection, digests: Collection[str]) -> KeyChecker:
    """Returns what the ledger says of keys, and which of them were revoked before some statements were recorded."""
    columns = ledger_entries.c
    checker = KeyChecker()
    if not digests:
        return checker
    found = {row["index"]: row["entry"] for row in rows_by(connection, ledger_entries, columns.action, _KEY_ACTIONS)}
    wanted = [f"attestation:{digest}" for digest in digests]
    found |= {row["index"]: row["entry"] for row in rows_by(connection, ledger_entries, columns.subject, wanted)}
    for _, data in sorted(found.items()):
        deque(checker.note(parse_entry(bytes(data))), maxlen=0)  # whether the ledger follows its rules is verified elsewhere
    return checker


def _statement(row: Mapping[str, str], keys: KeyChecker, records: Records) -> SignedStatement:
    signers: tuple[str, ...] = ()
    problem = ""
    try:
        payload, signers = dsse.verify_envelope(row["envelope"], keys.known)
        if row["kind"] == PROVENANCE and f"model-version:{parse_provenance(payload)['subject'][0]['name']}" != row["subject"]:
            problem = "it is about something else than its row says"
        if hashlib.sha256(row["envelope"].encode()).hexdigest() != row["digest"]:
            problem = "its bytes are not those of its digest"
        problem = keys.late_signer(row["digest"], signers) or problem
    except IntegrityError as error:
        problem = error.diagnosis
    names = [keys.owners[signer] for signer in signers] or [row["signer"]]
    return SignedStatement(
        digest=row["digest"],
        kind=row["kind"],
        subject=row["subject"],
        time=row["created"],
        signers=tuple(_named(name, records) for name in names),
        key_ids=signers,
        problem=problem,
    )


def _named(subject: str, records: Records) -> str:
    """Returns a signer as a person reads it: an identity by its name, a key of the home by what it is for."""
    if subject.startswith("key:"):
        return f"this home's {subject.removeprefix('key:')} key"
    return records.who(subject)
