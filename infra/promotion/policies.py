"""Policies in the database: the newest of an environment counts, and every one stays on record."""

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select

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
GUARDRAILS = "@guardrails"
"""Under this name the policies of what may be generated are kept; no environment and no alias of MLflow can have it."""


def current_policy(connection: Connection, environment: str) -> "Policy":
    """Returns the policy that counts in an environment: the newest on record, otherwise the one that groundswell ships.

    Raises:
        UnknownSubjectError: There is no such environment.
        IntegrityError: What is on record is not the policy of its digest.
    """
    from governance.promotion.policy import parse_policy

    found = newest(connection, environment) if environment != GUARDRAILS else None
    if found is None:
        return shipped_policy(environment)
    digest, document = found
    policy = parse_policy(document)
    if policy.digest != digest or policy.document != document:
        raise IntegrityError(f"the policy of {environment} on record is not the one of its digest")
    return policy


def newest(connection: Connection, environment: str) -> tuple[str, str] | None:
    """Returns digest and document of the newest policy on record of an environment, or of the guardrails."""
    columns = policies.c
    query = select(columns.digest, columns.document).where(columns.environment == environment)
    row = connection.execute(query.order_by(columns.number.desc()).limit(1)).first()
    return (row.digest, row.document) if row is not None else None


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
    return sorted({*SHIPPED, *connection.execute(select(policies.c.environment).distinct()).scalars()} - {GUARDRAILS})


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
    return record_document(uow, policy.environment, policy.document, policy.digest, actor=actor)


def record_document(uow: UnitOfWork, environment: str, document: str, digest: str, *, actor: str) -> int:
    """Records a policy's canonical JSON in an open unit of work, unless it is the newest, and returns its number.

    Args:
        uow: The unit of work.
        environment: The environment that it is of, or `GUARDRAILS`.
        document: The canonical JSON.
        digest: Its SHA-256.
        actor: Who sets it.
    """
    columns = policies.c
    last = uow.connection.execute(
        select(columns.number, columns.digest).where(columns.environment == environment).order_by(columns.number.desc()).limit(1)
    ).first()
    if last is not None and last.digest == digest:
        return int(last.number)
    number = last.number + 1 if last is not None else 1
    values = {"digest": digest, "document": document, "actor": actor, "created": uow.time}
    uow.connection.execute(insert(policies).values(environment=environment, number=number, **values))
    details = {"number": number, "digest": digest, "document_digest": digest, "created": uow.time}
    uow.append("policy.set", f"policy:{environment}", details, actor=actor)
    return number
