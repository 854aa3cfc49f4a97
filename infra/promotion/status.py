"""How requests and champions stand, in one document each, for whoever decides."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from governance.errors import GovernanceError
from governance.identity import Identity
from governance.promotion.state import Promotion, State
from infra.database import Database
from infra.promotion.policies import current_policy, environments
from infra.promotion.records import approvals_of, evidence_of, find_promotion, find_promotions, people_in
from infra.tables import champions, commitments, promotions


def describe_request(db: Database, named: str) -> dict[str, Any]:
    """Returns a request with its gate results, its approvals, and what it waits for.

    Args:
        db: The database.
        named: The request's id, or its beginning.

    Raises:
        UnknownSubjectError: There is no such request.
        IntegrityError: Its gate results or an approval are damaged.
    """
    with db.read() as connection:
        promotion = find_promotion(connection, named)
        people = people_in(connection)
        evidence = evidence_of(connection, promotion.promotion_id)
        given = approvals_of(connection, promotion, people)
        row = _row(connection, promotion)
        return {
            **_summary(promotion, people),
            "root_digest": promotion.root_digest,
            "policy_digest": promotion.policy_digest,
            "evidence_root": promotion.evidence_root,
            "trainers": [_person(one, people) for one in promotion.trainers],
            "reason": row["reason"],
            "changed": row["changed"],
            "lapses": row["lapses"],
            "previous": promotion.previous,
            "gates": evidence.get("gates", []),
            "approvals": [
                {
                    "by": _person(one.approver.identity_id, people),
                    "role": one.approval.role,
                    "signed": one.approval.signed,
                    "statement": one.digest,
                    "counts": one.approver.is_active,
                }
                for one in given
            ],
            "needed": _needed(connection, promotion),
        }


def overview(db: Database, *, name: str | None = None, now: str) -> dict[str, Any]:
    """Returns every environment's champions, until when each may stay, and the requests that are open.

    Args:
        db: The database.
        name: Of this model only.
        now: The time, RFC 3339 UTC.
    """
    with db.read() as connection:
        people = people_in(connection)
        query = select(champions).order_by(champions.c.name, champions.c.environment)
        if name is not None:
            query = query.where(champions.c.name == name)
        rows = connection.execute(query).mappings().all()
        return {
            "environments": environments(connection),
            "champions": [
                {
                    "model": f"{row['name']}/{row['version']}",
                    "environment": row["environment"],
                    "root_digest": row["root_digest"],
                    "request": row["promotion_id"],
                    "since": row["since"],
                    "expires": row["expires"],
                    "lapsed": row["expires"] <= now,
                    "entry": row["entry_index"],
                }
                for row in rows
            ],
            "open": [_summary(one, people) for one in find_promotions(connection, name=name, open_only=True)],
        }


def list_requests(
    db: Database, *, name: str | None = None, environment: str | None = None, open_only: bool = False
) -> list[dict[str, Any]]:
    """Returns requests in brief, newest first."""
    with db.read() as connection:
        people = people_in(connection)
        found = find_promotions(connection, name=name, environment=environment, open_only=open_only)
        return [_summary(one, people) for one in reversed(found)]


def _summary(promotion: Promotion, people: Mapping[str, Identity]) -> dict[str, Any]:
    return {
        "request": promotion.promotion_id,
        "model": f"{promotion.name}/{promotion.version}",
        "environment": promotion.environment,
        "state": promotion.state.value,
        "requester": _person(promotion.requester, people),
        "requested": promotion.requested,
        "expires": promotion.expires,
        "expected_champion": f"{promotion.name}/{promotion.expected_version}" if promotion.expected_version else None,
        "approved_by": [_person(one, people) for one in promotion.approvers],
    }


def _person(identity_id: str, people: Mapping[str, Identity]) -> dict[str, str | None]:
    known = people.get(identity_id)
    return {"identity": identity_id, "name": known.name if known else None}


def _needed(connection: Connection, promotion: Promotion) -> dict[str, Any] | None:
    """Returns the approvals that are asked for while the request is open; None where its policy was changed."""
    if promotion.state not in {State.AWAITING, State.APPROVED}:
        return None
    try:
        policy = current_policy(connection, promotion.environment)
    except GovernanceError:
        return None
    if policy.digest != promotion.policy_digest:
        return None
    return {"policy": policy.name, "application": policy.application, **policy.approvals.model_dump(mode="json")}


def _row(connection: Connection, promotion: Promotion) -> dict[str, Any]:
    columns = promotions.c
    query = (
        select(columns.changed, columns.lapses, commitments.c.value.label("reason"))
        .select_from(promotions.outerjoin(commitments, columns.reason_commitment == commitments.c.commitment))
        .where(columns.promotion_id == promotion.promotion_id)
    )
    return dict(connection.execute(query).mappings().one())
