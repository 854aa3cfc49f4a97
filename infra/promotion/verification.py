"""Whether what stands of promotion in the tables is what was approved, and whether MLflow's aliases follow it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table

from governance.canonical import canonical_digest
from governance.errors import GovernanceError
from governance.promotion.approval import check_bound
from governance.promotion.state import Promotion, State
from infra.promotion.guards import missing_guards
from infra.promotion.policies import environments
from infra.promotion.records import approvals_of, evidence_of, people_in, promotion_of
from infra.tables import champions, policies, promotions

if TYPE_CHECKING:
    from governance.promotion.policy import Policy

_ALIASES = table("registered_model_aliases", column("name"), column("alias"), column("version"), column("workspace"))


def promotion_problems(connection: Connection) -> Iterator[str]:
    """Yields what is wrong: with a request that was applied, with a champion, an alias, or a guard that is missing.

    Args:
        connection: A connection in the transaction that is verified.
    """
    applied: dict[str, Promotion] = {}
    for row in connection.execute(select(promotions).where(promotions.c.lapses.is_not(None))).mappings().all():
        promotion = promotion_of(connection, row)
        yield from _about_applied(connection, promotion)
        if promotion.state is State.APPLIED:
            applied[promotion.promotion_id] = promotion
    rows = connection.execute(select(champions).order_by(champions.c.name, champions.c.environment)).mappings().all()
    for row in rows:
        promotion_at = applied.pop(row["promotion_id"], None)
        name = f"champion {row['name']} of {row['environment']}"
        if promotion_at is None:
            yield f"{name}: request {row['promotion_id']} is not applied"
        elif (promotion_at.name, promotion_at.environment, promotion_at.version, promotion_at.root_digest) != (
            row["name"],
            row["environment"],
            row["version"],
            row["root_digest"],
        ):
            yield f"{name}: request {row['promotion_id']} is of something else"
    yield from (f"request {one} is applied, and no champion says so" for one in sorted(applied))
    yield from _about_aliases(connection, {(row["name"], row["environment"]): row["version"] for row in rows})
    for guard in missing_guards(connection):
        yield f"the trigger {guard}, which guards MLflow's aliases, is missing or another"


def _about_applied(connection: Connection, promotion: Promotion) -> Iterator[str]:
    """Yields why a request should not have been applied, going by what is on record."""
    name = f"request {promotion.promotion_id}"
    try:
        if canonical_digest(evidence_of(connection, promotion.promotion_id), floats=True) != promotion.evidence_root:
            yield f"{name}: its gate results are not those of its evidence root"
        policy = _policy(connection, promotion.policy_digest)
        people = people_in(connection)
        given = approvals_of(connection, promotion, people)
        for one in given:
            check_bound(one.approval, promotion)
    except GovernanceError as error:
        yield f"{name}: {error.diagnosis}"
        return
    if policy is None:
        yield f"{name}: the policy that it was judged by is not on record"
    elif not policy.approvals.needed.are_met([one.approver for one in given]):
        yield f"{name} was applied without the approvals that its policy asks for"
    if selves := sorted({one.approver.identity_id for one in given} & {promotion.requester, *promotion.trainers}):
        yield f"{name} was approved by {selves[0]}, who requested it or trained the model"


def _policy(connection: Connection, digest: str) -> "Policy | None":
    from governance.promotion.policy import parse_policy

    document = connection.execute(select(policies.c.document).where(policies.c.digest == digest).limit(1)).scalar()
    policy = parse_policy(document) if document is not None else None
    return policy if policy is not None and policy.digest == digest else None


def _about_aliases(connection: Connection, wanted: dict[tuple[str, str], int]) -> Iterator[str]:
    if not inspect(connection).has_table(_ALIASES.name):
        return
    governed = set(environments(connection))
    missing = dict(wanted)
    columns = _ALIASES.c
    for name, alias, version, workspace in connection.execute(
        select(columns.name, columns.alias, columns.version, columns.workspace).order_by(columns.name, columns.alias)
    ):
        if alias.lower() not in governed:
            continue
        known = missing.pop((name, alias), None) if workspace == "default" else None
        if known is None:
            yield f"alias {alias} of {name} names version {version}, which nobody promoted"
        elif known != version:
            yield f"alias {alias} of {name} names version {version}, the champion is version {known}"
    for (name, environment), version in missing.items():
        yield f"alias {environment} of {name} is gone, the champion is version {version}"
