"""Approves, rejects and withdraws requests, applies them, and ends those whose time is over."""

from contextlib import AbstractContextManager

from cryptography.hazmat.primitives.asymmetric import ec

from governance.canonical import canonical_digest
from governance.errors import BadRecordError
from governance.identity import Identity, Role
from governance.ledger import format_time
from governance.promotion.approval import KIND, Approval, approval_of, check_bound
from governance.promotion.policy import Policy
from governance.promotion.state import (
    OPERATORS,
    Action,
    Promotion,
    RuleError,
    State,
    check_actor,
    check_approver,
    check_champion,
    check_policy,
    check_unexpired,
    check_withdraw,
)
from infra.attestations import record_statement, sign_with
from infra.database import Database, UnitOfWork
from infra.home import Home
from infra.identities import get_identity
from infra.model_versions import find_version, open_version
from infra.promotion.champions import change, put_in
from infra.promotion.guards import install_guards
from infra.promotion.policies import current_policy
from infra.promotion.records import (
    approvals_of,
    champion_of,
    evidence_of,
    find_promotion,
    find_promotions,
    people_in,
    verified_approval,
)
from infra.promotion.refusals import recorded
from infra.withdrawal_reach import withdrawals_reaching

_MAX_ENVELOPE = 64 << 10


def sign_approval(home: Home, named: str, *, actor: str) -> str:
    """Returns somebody's signed approval of a request as it stands, without recording it.

    Args:
        home: The home, which has the private key of whoever approves.
        named: The request's id, or its beginning.
        actor: Who approves, an identity's id.

    Raises:
        RuleError: They may not approve it.
        UnknownSubjectError: There is no such request or identity.
        BadSettingError: Their private key cannot be used.
    """
    with home.database.read() as connection:
        promotion = find_promotion(connection, named)
        people = people_in(connection)
        approver = get_identity(connection, actor)
        policy = current_policy(connection, promotion.environment)
        check_approver(promotion, approver, policy.approvals.needed, people)
    key: ec.EllipticCurvePrivateKey = home.keys.person_private_key(actor)
    approval = approval_of(promotion, approver=actor, role=approver.role.value, signed=format_time(home.database.now()))
    return sign_with(approval.statement(), key)


def approve(home: Home, named: str, *, actor: str, envelope: str | None = None) -> Promotion:
    """Records an approval; the last one that the policy asks for applies the request, unless the policy leaves that to somebody.

    Args:
        home: The home.
        named: The request's id, or its beginning.
        actor: Who approves, an identity's id.
        envelope: Their signed approval, where it was signed elsewhere; by default it is signed here, with their key in this home.

    Returns:
        The request after it.

    Raises:
        RuleError: A rule does not allow it.
        IntegrityError: The package is not what was registered, or the approval is not signed by whom it names.
        UnknownSubjectError: There is no such request or identity.
        BadRecordError: The envelope is too large to be one.
        BadSettingError: Their private key cannot be used.
    """
    if envelope is not None and len(envelope) > _MAX_ENVELOPE:
        raise BadRecordError("the envelope is too large to hold an approval")
    db = home.database
    settle(db)
    install_guards(db)
    promotion = _find(db, named)
    with _recorded(db, "approve", promotion, actor):
        envelope = envelope or sign_approval(home, promotion.promotion_id, actor=actor)
        _verify_package(home, promotion)
        with db.unit_of_work() as uow:
            return _approve(uow, promotion.promotion_id, envelope, actor=actor)


def apply(home: Home, named: str, *, actor: str) -> Promotion:
    """Applies an approved request.

    Raises:
        RuleError: A rule does not allow it.
        IntegrityError: The package, an approval or the gate results are not what they were.
        UnknownSubjectError: There is no such request or identity.
    """
    db = home.database
    settle(db)
    install_guards(db)
    promotion = _find(db, named)
    with _recorded(db, "apply", promotion, actor):
        _verify_package(home, promotion)
        with db.unit_of_work() as uow:
            check_actor(get_identity(uow.connection, actor), OPERATORS, "apply")
            current = find_promotion(uow.connection, promotion.promotion_id)
            current.after(Action.APPLY)
            return _apply(uow, current, current_policy(uow.connection, current.environment), actor=actor)


def reject(home: Home, named: str, *, actor: str, reason: str) -> Promotion:
    """Rejects a request, which ends it.

    Raises:
        RuleError: The actor has no role that the policy names, and is no admin; or the request has ended.
        UnknownSubjectError: There is no such request or identity.
    """
    db = home.database
    settle(db)
    promotion = _find(db, named)
    with _recorded(db, "reject", promotion, actor), db.unit_of_work() as uow:
        current = find_promotion(uow.connection, promotion.promotion_id)
        after = current.after(Action.REJECT)
        policy = current_policy(uow.connection, current.environment)
        check_actor(get_identity(uow.connection, actor), {*policy.approvals.roles, Role.ADMIN}, "reject")
        change(uow, after, "promotion.rejected", {"reason_commitment": uow.commit_to(reason)}, actor=actor)
        return after


def withdraw(home: Home, named: str, *, actor: str) -> Promotion:
    """Takes a request back, which ends it.

    Raises:
        RuleError: The actor is neither who made it nor an admin, or the request has ended.
        UnknownSubjectError: There is no such request or identity.
    """
    db = home.database
    settle(db)
    promotion = _find(db, named)
    with _recorded(db, "withdraw", promotion, actor), db.unit_of_work() as uow:
        current = find_promotion(uow.connection, promotion.promotion_id)
        check_withdraw(current, get_identity(uow.connection, actor))
        after = current.after(Action.WITHDRAW)
        change(uow, after, "promotion.withdrawn", {}, actor=actor)
        return after


def settle(db: Database) -> list[Promotion]:
    """Ends the open requests whose time is over, and returns them."""
    now = format_time(db.now())
    with db.read() as connection:
        if not any(one.expires <= now for one in find_promotions(connection, open_only=True)):
            return []
    with db.unit_of_work() as uow:
        over = [one for one in find_promotions(uow.connection, open_only=True) if one.expires <= uow.time]
        ended = [one.after(Action.EXPIRE) for one in over]
        for one in ended:
            change(uow, one, "promotion.expired", {}, actor="system")
        return ended


def _find(db: Database, named: str) -> Promotion:
    with db.read() as connection:
        return find_promotion(connection, named)


def _recorded(db: Database, action: str, promotion: Promotion, actor: str) -> AbstractContextManager[None]:
    return recorded(
        db,
        action,
        promotion.subject,
        actor=actor,
        environment=promotion.environment,
        promotion_id=promotion.promotion_id,
    )


def _verify_package(home: Home, promotion: Promotion) -> None:
    """Verifies that the package is still the one that was requested, and whole."""
    version = find_version(home.database, f"{promotion.name}/{promotion.version}")
    if version.root_digest != promotion.root_digest:
        raise RuleError(
            "binding",
            f"{promotion.name}/{promotion.version} is another package than the one that was requested",
            hint="request it again",
        )
    open_version(version, home.package_keys, home.package_cache)


def _approve(uow: UnitOfWork, promotion_id: str, envelope: str, *, actor: str) -> Promotion:
    connection = uow.connection
    promotion = find_promotion(connection, promotion_id)
    policy = current_policy(connection, promotion.environment)
    people = people_in(connection)
    approver = get_identity(connection, actor)
    _check_stands(uow, promotion, policy)
    check_approver(promotion, approver, policy.approvals.needed, people)
    approval = verified_approval(envelope, approver)
    check_bound(approval, promotion)
    _check_signed(approval, approver, now=uow.time)
    digest = record_statement(uow, envelope, kind=KIND, subject=promotion.subject, signer=actor, actor=actor)
    promotion = find_promotion(connection, promotion_id)
    enough = _are_enough(uow, promotion, policy)
    promotion = promotion.after(Action.COMPLETE if enough else Action.APPROVE)
    change(uow, promotion, "promotion.approved", {"statement": digest}, actor=actor)
    return _apply(uow, promotion, policy, actor=actor) if enough and policy.application == "automatic" else promotion


def _apply(uow: UnitOfWork, promotion: Promotion, policy: Policy, *, actor: str) -> Promotion:
    """Applies a request after checking again, under the write lock, everything that its approvals are bound to."""
    _check_stands(uow, promotion, policy)
    if not _are_enough(uow, promotion, policy):
        raise RuleError(
            "signature",
            f"the approvals of request {promotion.promotion_id} that still count are not enough",
            hint="an approver was revoked since; request it again",
        )
    return put_in(uow, promotion, policy, actor=actor)


def _check_stands(uow: UnitOfWork, promotion: Promotion, policy: Policy) -> None:
    """Checks that a request is still what was asked for."""
    connection = uow.connection
    if promotion.state not in {State.AWAITING, State.APPROVED}:
        promotion.after(Action.APPROVE)
    check_unexpired(promotion, uow.time)
    check_policy(promotion, policy.digest)
    if not policy.counts_at(uow.time):
        raise RuleError("expired", f"the policy of {policy.environment} counted until {policy.valid_until}")
    check_champion(promotion, champion_of(connection, promotion.name, promotion.environment))
    if canonical_digest(evidence_of(connection, promotion.promotion_id), floats=True) != promotion.evidence_root:
        raise RuleError("evidence", f"the gate results of request {promotion.promotion_id} are not those of its evidence root")
    if policy.gates.nothing_withdrawn and withdrawals_reaching(connection, promotion.subject):
        raise RuleError(
            "evidence",
            f"items of the data behind {promotion.name}/{promotion.version} were withdrawn since it was requested",
            hint="train again on the data without them",
        )


def _check_signed(approval: Approval, approver: Identity, *, now: str) -> None:
    if approval.role != approver.role:
        raise RuleError(
            "signature", f"the approval is by {approver.identity_id} as {approval.role!s:.40}, and their role is {approver.role}"
        )
    if not approver.created <= approval.signed <= now:
        raise RuleError(
            "signature",
            f"the approval by {approver.identity_id} says that it was signed on {approval.signed!s:.40}, when they did not have "
            "their role, or which is yet to come",
            hint="sign it again, with the clock set right",
        )


def _are_enough(uow: UnitOfWork, promotion: Promotion, policy: Policy) -> bool:
    """Says whether the approvals that count are enough: of this request as it stands, by people who were not revoked."""
    people = people_in(uow.connection)
    counting = []
    for given in approvals_of(uow.connection, promotion, people):
        check_bound(given.approval, promotion)
        if given.approver.is_active:
            counting.append(given.approver)
    return policy.approvals.needed.are_met(counting)
