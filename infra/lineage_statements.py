"""The signed statements about the subjects of a lineage report, each verified again with the keys that the ledger names."""

import hashlib
from collections.abc import Collection, Iterator, Mapping

from sqlalchemy import Connection, select

from governance import dsse
from governance.errors import IntegrityError
from governance.ledger import parse_entry
from governance.lineage_report.model import SignedStatement
from governance.provenance import parse_provenance
from infra.attestations import PROVENANCE
from infra.lineage_records import Records, rows_by
from infra.tables import attestations, ledger_entries

_KEY_ACTIONS = ("key.created", "identity.created")


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
    keys = known_keys(connection) if rows else {}
    return tuple(_statement(row, keys, records) for row in rows)


def known_keys(connection: Connection) -> Mapping[str, tuple[str, str]]:
    """Returns the public keys that the ledger names, by their ids: whose each is, and the key in PEM."""
    columns = ledger_entries.c
    query = select(columns.entry).where(columns.action.in_(_KEY_ACTIONS)).order_by(columns.index)
    return dict(_keys(bytes(data) for (data,) in connection.execute(query)))


def _keys(entries: Iterator[bytes]) -> Iterator[tuple[str, tuple[str, str]]]:
    for data in entries:
        entry = parse_entry(data)
        pem = entry.details.get("public_key_pem")
        if isinstance(pem, str):
            yield dsse.key_id(pem), (entry.subject, pem)


def _statement(row: Mapping[str, str], keys: Mapping[str, tuple[str, str]], records: Records) -> SignedStatement:
    signers: tuple[str, ...] = ()
    problem = ""
    try:
        payload, signers = dsse.verify_envelope(row["envelope"], {key: pem for key, (_, pem) in keys.items()})
        if row["kind"] == PROVENANCE and f"model-version:{parse_provenance(payload)['subject'][0]['name']}" != row["subject"]:
            problem = "it is about something else than its row says"
        if hashlib.sha256(row["envelope"].encode()).hexdigest() != row["digest"]:
            problem = "its bytes are not those of its digest"
    except IntegrityError as error:
        problem = error.diagnosis
    names = [keys[signer][0] for signer in signers] or [row["signer"]]
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
