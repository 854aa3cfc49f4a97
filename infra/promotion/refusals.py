"""Refused attempts: each is an entry of the ledger before its error is told."""

from collections.abc import Iterator
from contextlib import contextmanager

from governance.errors import IntegrityError, RefusedError
from governance.promotion.state import RuleError
from infra.database import Database

ACTION = "promotion.refused"


@contextmanager
def recorded(
    db: Database, action: str, subject: str, *, actor: str, environment: str | None = None, promotion_id: str | None = None
) -> Iterator[None]:
    """Records that an attempt was refused, if it is: by a rule, or because a digest, a signature or a proof does not hold.

    Args:
        db: The database.
        action: What was attempted, such as ``approve``.
        subject: What it was about, such as ``model-version:emoji-dit/3``.
        actor: Who attempted it.
        environment: The environment.
        promotion_id: The request, where there is one.

    Raises:
        RefusedError: As it came.
        IntegrityError: As it came.
        BackendUnavailableError: The entry cannot be written.
    """
    try:
        yield
    except (RefusedError, IntegrityError) as error:
        rule = error.rule if isinstance(error, RuleError) else "integrity" if isinstance(error, IntegrityError) else "role"
        details = {"attempt": action, "rule": rule, "environment": environment, "promotion": promotion_id}
        with db.unit_of_work() as uow:
            uow.append(ACTION, subject, details, actor=actor)
        raise
