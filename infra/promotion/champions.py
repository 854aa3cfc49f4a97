"""Puts a champion in: MLflow's alias, our row and the ledger's entry in one unit of work, compared with what was expected."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import column, insert, select, table, update

from governance.errors import IntegrityError
from governance.ledger import format_time
from governance.promotion.state import Action, Promotion, check_champion
from infra.database import UnitOfWork
from infra.promotion.outbox import post
from infra.promotion.records import champion_of, find_promotion, find_promotions, update_promotion
from infra.tables import champions

if TYPE_CHECKING:
    from governance.promotion.policy import Policy

_ALIASES = table("registered_model_aliases", column("name"), column("alias"), column("version"), column("workspace"))
_VERSIONS = table("model_versions", column("name"), column("version"), column("current_stage"), column("workspace"))
_WORKSPACE, _DELETED = "default", "Deleted_Internal"

APPLIED, RESTORED = "promotion.applied", "promotion.restored"


def put_in(uow: UnitOfWork, promotion: Promotion, policy: "Policy", *, actor: str) -> Promotion:
    """Makes the version of an approved request the champion of its environment.

    The champion before, and every other open request that expects it, are superseded.

    Raises:
        RuleError: The champion is not the one that the request expects, or the request is not approved.
        IntegrityError: MLflow does not have the version any more.
    """
    champion = champion_of(uow.connection, promotion.name, promotion.environment)
    check_champion(promotion, champion)
    applied = promotion.after(Action.APPLY)
    previous = find_promotion(uow.connection, champion.promotion_id) if champion else None
    if previous is not None:
        is_same = previous.version == promotion.version
        applied = replaced(applied, previous=previous.previous if is_same else previous.promotion_id)
        _end(uow, previous.after(Action.SUPERSEDE), by=promotion, actor=actor)
    lapses = format_time(datetime.fromisoformat(uow.time) + timedelta(days=policy.champion_valid_days))
    _set_champion(uow, applied, APPLIED, lapses=lapses, actor=actor)
    for other in find_promotions(uow.connection, name=promotion.name, environment=promotion.environment, open_only=True):
        if other.promotion_id != promotion.promotion_id:
            _end(uow, other.after(Action.SUPERSEDE), by=promotion, actor=actor)
    return applied


def put_back(uow: UnitOfWork, current: Promotion, previous: Promotion, *, lapses: str, actor: str, reason: str) -> Promotion:
    """Makes the champion before the current one the champion again.

    Args:
        uow: An open unit of work.
        current: The request whose version is champion.
        previous: The one before.
        lapses: Until when the latter may be champion, as was said when it was applied.
        actor: Who rolls back.
        reason: The commitment to the reason.
    """
    ended = current.after(Action.ROLL_BACK)
    restored = previous.after(Action.RESTORE)
    details = {"to": f"{restored.name}/{restored.version}", "reason_commitment": reason}
    change(uow, ended, "promotion.rolled-back", details, actor=actor)
    _set_champion(uow, restored, RESTORED, lapses=lapses, actor=actor)
    for other in find_promotions(uow.connection, name=current.name, environment=current.environment, open_only=True):
        _end(uow, other.after(Action.SUPERSEDE), by=restored, actor=actor)
    return restored


def change(
    uow: UnitOfWork,
    promotion: Promotion,
    action: str,
    details: Mapping[str, Any],
    *,
    actor: str,
    lapses: str | None = None,
) -> int:
    """Writes a request's new state with its entry and the message about it, and returns the entry's index."""
    update_promotion(uow, promotion, lapses=lapses)
    said = {
        "promotion": promotion.promotion_id,
        "environment": promotion.environment,
        "state": promotion.state.value,
        "previous": promotion.previous,
        "changed": uow.time,
        **details,
    }
    index = uow.append(action, promotion.subject, said, actor=actor)
    post(uow, action, promotion, actor=actor)
    return index


def replaced(promotion: Promotion, **values: Any) -> Promotion:
    """Returns a request with some values in the place of others."""
    import dataclasses

    return dataclasses.replace(promotion, **values)


def _end(uow: UnitOfWork, promotion: Promotion, *, by: Promotion, actor: str) -> None:
    change(uow, promotion, "promotion.superseded", {"by": by.promotion_id}, actor=actor)


def _set_champion(uow: UnitOfWork, promotion: Promotion, action: str, *, lapses: str, actor: str) -> None:
    details = {"root_digest": promotion.root_digest, "since": uow.time, "lapses": lapses}
    index = change(uow, promotion, action, details, actor=actor, lapses=lapses)
    uow.flush()  # the guards compare with the entry
    values = {
        "version": promotion.version,
        "root_digest": promotion.root_digest,
        "promotion_id": promotion.promotion_id,
        "since": uow.time,
        "expires": lapses,
        "entry_index": index,
    }
    connection, columns = uow.connection, champions.c
    key = (columns.name == promotion.name) & (columns.environment == promotion.environment)
    if not connection.execute(update(champions).where(key).values(**values)).rowcount:
        connection.execute(insert(champions).values(name=promotion.name, environment=promotion.environment, **values))
    _point_alias(uow, promotion)


def _point_alias(uow: UnitOfWork, promotion: Promotion) -> None:
    """Has MLflow's alias name the champion."""
    connection, version, alias = uow.connection, _VERSIONS.c, _ALIASES.c
    known = select(version.current_stage).where(
        version.name == promotion.name, version.version == promotion.version, version.workspace == _WORKSPACE
    )
    stage = connection.execute(known.with_for_update()).scalars().first()
    if stage is None or stage == _DELETED:
        raise IntegrityError(
            f"MLflow does not have {promotion.name}/{promotion.version} any more", hint="restore the database from a backup"
        )
    key = (alias.name == promotion.name) & (alias.alias == promotion.environment) & (alias.workspace == _WORKSPACE)
    if not connection.execute(update(_ALIASES).where(key).values(version=promotion.version)).rowcount:
        connection.execute(
            insert(_ALIASES).values(
                name=promotion.name, alias=promotion.environment, version=promotion.version, workspace=_WORKSPACE
            )
        )
