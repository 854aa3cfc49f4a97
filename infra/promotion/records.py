"""Requests and champions as rows, read back as what the rules work on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from governance.dsse import verify_envelope
from governance.errors import IntegrityError, UnknownSubjectError
from governance.identity import Identity
from governance.promotion.approval import KIND, Approval, parse_approval
from governance.promotion.state import OPEN, Champion, Promotion, State
from infra.database import UnitOfWork
from infra.identities import list_identities_in
from infra.tables import attestations, champions, promotions

_MIN_PREFIX = 3


@dataclass(frozen=True, kw_only=True)
class GivenApproval:
    """An approval on record, verified again.

    Attributes:
        digest: SHA-256 of its envelope.
        approval: What it says.
        approver: Who signed it.
    """

    digest: str
    approval: Approval
    approver: Identity


def people_in(connection: Connection) -> dict[str, Identity]:
    """Returns every identity by its id."""
    return {identity.identity_id: identity for identity in list_identities_in(connection)}


def find_promotion(connection: Connection, named: str) -> Promotion:
    """Returns the request with an id, or with an id that begins so.

    Raises:
        UnknownSubjectError: There is none, or more than one.
    """
    columns = promotions.c
    found = [row for row in connection.execute(select(columns.promotion_id)).scalars() if row == named]
    if not found and len(named) >= _MIN_PREFIX:
        query = select(columns.promotion_id).where(columns.promotion_id.startswith(named, autoescape=True)).limit(2)
        found = list(connection.execute(query).scalars())
    if len(found) != 1:
        some = "more than one request begins" if found else "no request is called"
        raise UnknownSubjectError(f"{some} {named!r:.80}", hint="`groundswell promote list` shows them")
    row = connection.execute(select(promotions).where(columns.promotion_id == found[0])).mappings().one()
    return promotion_of(connection, row)


def find_promotions(
    connection: Connection, *, name: str | None = None, environment: str | None = None, open_only: bool = False
) -> list[Promotion]:
    """Returns requests, oldest first.

    Args:
        connection: An open connection.
        name: Of this model only.
        environment: For this environment only.
        open_only: Only those that are neither ended nor applied.
    """
    columns = promotions.c
    query = select(promotions).order_by(columns.requested, columns.promotion_id)
    if name is not None:
        query = query.where(columns.name == name)
    if environment is not None:
        query = query.where(columns.environment == environment)
    if open_only:
        query = query.where(columns.state.in_(sorted(OPEN)))
    return [promotion_of(connection, row) for row in connection.execute(query).mappings().all()]


def promotion_of(connection: Connection, row: RowMapping | Mapping[str, Any]) -> Promotion:
    """Returns the request that a row holds, with who has approved it."""
    fields = Promotion.__dataclass_fields__.keys() - {"approvers", "state", "trainers"}
    values = {name: row[name] for name in fields}
    approvers = tuple(signer for _, signer, _ in _envelopes(connection, row["promotion_id"], _subject(row)))
    return Promotion(**values, state=State(row["state"]), trainers=tuple(row["trainers"].split()), approvers=approvers)


def evidence_of(connection: Connection, promotion_id: str) -> dict[str, Any]:
    """Returns the gate results of a request.

    Raises:
        IntegrityError: They are no JSON object.
    """
    text = connection.execute(select(promotions.c.evidence).where(promotions.c.promotion_id == promotion_id)).scalar_one()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"the gate results of request {promotion_id} are no JSON") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"the gate results of request {promotion_id} are no JSON object")
    return value


def approvals_of(connection: Connection, promotion: Promotion, people: Mapping[str, Identity]) -> list[GivenApproval]:
    """Returns the approvals of a request, each verified with its approver's key.

    Raises:
        IntegrityError: One is not signed by the identity that it names.
    """
    found = []
    for digest, signer, envelope in _envelopes(connection, promotion.promotion_id, promotion.subject):
        approver = people.get(signer)
        if approver is None:
            raise IntegrityError(f"approval {digest:.16} is signed by {signer!r:.40}, who is not on record")
        found.append(GivenApproval(digest=digest, approval=verified_approval(envelope, approver), approver=approver))
    return found


def verified_approval(envelope: str, approver: Identity) -> Approval:
    """Returns what an approval says, after verifying that its approver signed it.

    Raises:
        IntegrityError: It is no approval, somebody else signed it, or it names somebody else.
    """
    from governance.dsse import key_id

    try:
        payload, signers = verify_envelope(envelope, {key_id(approver.public_key_pem): approver.public_key_pem})
        approval = parse_approval(payload)
    except IntegrityError as error:
        raise IntegrityError(f"an approval by {approver.identity_id} does not hold: {error.diagnosis}") from error
    if approval.approver != approver.identity_id or len(signers) != 1:
        raise IntegrityError(f"an approval that {approver.identity_id} signed says that it is by {approval.approver!r:.40}")
    return approval


def champion_of(connection: Connection, name: str, environment: str) -> Champion | None:
    """Returns the champion of an environment, None where there is none."""
    columns = champions.c
    query = select(columns.version, columns.root_digest, columns.promotion_id, columns.since, columns.expires)
    row = connection.execute(query.where(columns.name == name, columns.environment == environment)).mappings().first()
    return Champion(**row) if row else None


def insert_promotion(uow: UnitOfWork, promotion: Promotion, *, evidence: str, reason_commitment: str | None) -> None:
    """Writes the row of a new request."""
    values = row_values(promotion) | {"evidence": evidence, "reason_commitment": reason_commitment, "changed": uow.time}
    uow.connection.execute(insert(promotions).values(**values, lapses=None))


def update_promotion(uow: UnitOfWork, promotion: Promotion, *, lapses: str | None = None) -> None:
    """Writes the state of a request, and for one that is applied until when it may be champion."""
    values: dict[str, Any] = {"state": promotion.state.value, "previous": promotion.previous, "changed": uow.time}
    if lapses is not None:
        values["lapses"] = lapses
    uow.connection.execute(update(promotions).where(promotions.c.promotion_id == promotion.promotion_id).values(**values))


def row_values(promotion: Promotion) -> dict[str, Any]:
    """Returns what a row holds of a request."""
    fields = Promotion.__dataclass_fields__.keys() - {"approvers"}
    values = {name: getattr(promotion, name) for name in sorted(fields)}
    return values | {"state": promotion.state.value, "trainers": " ".join(promotion.trainers)}


def _envelopes(connection: Connection, promotion_id: str, subject: str) -> list[tuple[str, str, str]]:
    """Returns digest, signer and envelope of the approvals on record for a request, oldest first."""
    columns = attestations.c
    query = select(columns.digest, columns.signer, columns.envelope).where(columns.subject == subject, columns.kind == KIND)
    rows = connection.execute(query.order_by(columns.created, columns.digest)).all()
    return [(digest, signer, envelope) for digest, signer, envelope in rows if _request_named(envelope) == promotion_id]


def _request_named(envelope: str) -> str:
    import base64

    try:
        return parse_approval(base64.b64decode(json.loads(envelope)["payload"])).promotion_id
    except (IntegrityError, ValueError, KeyError, TypeError):
        return ""


def _subject(row: RowMapping | Mapping[str, Any]) -> str:
    return f"model-version:{row['name']}/{row['version']}"
