"""Policies in the database: the newest of an environment counts, and every one stays on record."""

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select

from governance.canonical import canonical_digest
from governance.errors import IntegrityError, UnknownSubjectError
from governance.identity import Role
from governance.ledger import SYSTEM
from governance.promotion.state import check_actor
from infra.database import Database, UnitOfWork
from infra.identities import get_identity
from infra.tables import policies

if TYPE_CHECKING:
    from governance.promotion.policy import Policy  # takes its time to be imported, and every command reaches this module

SHIPPED = ("production", "staging")


def current_policy(connection: Connection, environment: str) -> "Policy":
    """Returns the policy that counts in an environment: the newest on record, otherwise the one that groundswell ships.

    Raises:
        UnknownSubjectError: There is no such environment.
        IntegrityError: What is on record is not the policy of its digest.
    """
    from governance.promotion.policy import parse_policy

    columns = policies.c
    query = select(columns.document, columns.digest).where(columns.environment == environment)
    row = connection.execute(query.order_by(columns.number.desc()).limit(1)).first()
    if row is None:
        return shipped_policy(environment)
    policy = parse_policy(row.document)
    if policy.digest != row.digest or policy.document != row.document:
        raise IntegrityError(f"the policy of {environment} on record is not the one of its digest")
    return policy


def shipped_policy(environment: str) -> "Policy":
    """Returns the policy that groundswell ships for an environment.

    Raises:
        UnknownSubjectError: It ships none.
    """
    from governance.promotion.policy import parse_policy

    if environment not in SHIPPED:
        raise UnknownSubjectError(
            f"there is no environment {environment!r:.80}", hint="`groundswell policy set FILE` makes one by giving it a policy"
        )
    return parse_policy(files("governance.promotion").joinpath("policies", f"{environment}.yaml").read_text(encoding="utf-8"))


def environments(connection: Connection) -> list[str]:
    """Returns the environments that have a policy."""
    return sorted({*SHIPPED, *connection.execute(select(policies.c.environment).distinct()).scalars()})


def history(connection: Connection, environment: str) -> Iterator[tuple[int, str, str, str]]:
    """Yields number, digest, actor and time of the policies of an environment, oldest first."""
    columns = policies.c
    query = select(columns.number, columns.digest, columns.actor, columns.created).where(columns.environment == environment)
    yield from (tuple(row) for row in connection.execute(query.order_by(columns.number)))


def set_policy(db: Database, policy: "Policy", *, actor: str) -> int:
    """Makes a policy the one that counts in its environment, and returns its number; the one that counts already stays.

    Raises:
        RuleError: The actor is no admin.
    """
    with db.unit_of_work() as uow:
        check_actor(get_identity(uow.connection, actor), {Role.ADMIN}, "set a policy")
        return record_policy(uow, policy, actor=actor)


def record_policy(uow: UnitOfWork, policy: "Policy", *, actor: str = SYSTEM) -> int:
    """Records a policy in an open unit of work, unless it is the newest, and returns its number."""
    columns = policies.c
    last = uow.connection.execute(
        select(columns.number, columns.digest)
        .where(columns.environment == policy.environment)
        .order_by(columns.number.desc())
        .limit(1)
    ).first()
    if last is not None and last.digest == policy.digest:
        return int(last.number)
    number = last.number + 1 if last is not None else 1
    values = {"digest": policy.digest, "document": policy.document, "actor": actor, "created": uow.time}
    uow.connection.execute(insert(policies).values(environment=policy.environment, number=number, **values))
    details = {
        "number": number,
        "digest": policy.digest,
        "document_digest": canonical_digest(policy.model_dump(mode="json"), floats=True),
        "created": uow.time,
    }
    uow.append("policy.set", f"policy:{policy.environment}", details, actor=actor)
    return number
