"""Rolls an environment back to the champion before."""

from sqlalchemy import select

from governance.errors import UnknownSubjectError
from governance.promotion.state import OPERATORS, Promotion, RuleError, State, check_actor
from infra.database import UnitOfWork
from infra.home import Home
from infra.identities import get_identity
from infra.model_versions import find_version, open_version
from infra.promotion.champions import put_back
from infra.promotion.guards import install_guards
from infra.promotion.policies import current_policy
from infra.promotion.records import champion_of, find_promotion
from infra.promotion.refusals import recorded
from infra.tables import promotions
from infra.withdrawal_reach import withdrawals_reaching


def roll_back(home: Home, name: str, environment: str, *, actor: str, reason: str) -> tuple[Promotion, Promotion]:
    """Makes the champion before the current one the champion again; it needs no approval, and is recorded.

    Args:
        home: The home.
        name: The model.
        environment: The environment.
        actor: Who rolls back: ops or an admin.
        reason: Why, in words; the ledger holds a commitment to it.

    Returns:
        The request that was rolled back, and the one whose version is champion again.

    Raises:
        RuleError: The actor may not, there is no champion before, or items of its data were withdrawn.
        IntegrityError: The package of the one before is not what was registered.
        UnknownSubjectError: The environment has no champion of this model.
    """
    db = home.database
    install_guards(db)
    with db.read() as connection:
        champion = champion_of(connection, name, environment)
        if champion is None:
            raise UnknownSubjectError(
                f"{environment} has no champion of {name}", hint="`groundswell promote status` shows what is where"
            )
        current = find_promotion(connection, champion.promotion_id)
    with recorded(db, "rollback", current.subject, actor=actor, environment=environment, promotion_id=current.promotion_id):
        if current.previous is None:
            raise RuleError("previous", f"there was no champion of {name} in {environment} before {name}/{current.version}")
        with db.read() as connection:
            check_actor(get_identity(connection, actor), OPERATORS, "roll back")
            previous = find_promotion(connection, current.previous)
        open_version(find_version(db, f"{name}/{previous.version}"), home.package_keys, home.package_cache)
        with db.unit_of_work() as uow:
            restored = _roll_back(uow, current, actor=actor, reason=reason)
    return current, restored


def _roll_back(uow: UnitOfWork, expected: Promotion, *, actor: str, reason: str) -> Promotion:
    connection = uow.connection
    check_actor(get_identity(connection, actor), OPERATORS, "roll back")
    current = find_promotion(connection, expected.promotion_id)
    if current.state is not State.APPLIED or current.previous != expected.previous or current.previous is None:
        raise RuleError("champion", f"the champion of {expected.name} in {expected.environment} was changed meanwhile")
    previous = find_promotion(connection, current.previous)
    if (
        withdrawals_reaching(connection, previous.subject)
        and current_policy(connection, current.environment).gates.nothing_withdrawn
    ):
        raise RuleError(
            "evidence",
            f"{previous.name}/{previous.version}, the champion before, goes back to items that were withdrawn",
            hint="request another version",
        )
    lapses = connection.execute(
        select(promotions.c.lapses).where(promotions.c.promotion_id == previous.promotion_id)
    ).scalar_one()
    return put_back(uow, current, previous, lapses=lapses or uow.time, actor=actor, reason=uow.commit_to(reason))
