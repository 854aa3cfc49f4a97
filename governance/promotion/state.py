"""A request to promote a model version into an environment, from its beginning to its end. Pure rules; each refusal names one:

`state`      An action fits the state: only what awaits approval is approved or rejected, only what is approved is applied, and
             what is gated, rejected, withdrawn, expired, superseded or rolled back stays so, but for the return of a champion.
`role`       Data scientists, ops and admins request. Who approves has a role that the policy names. Ops and admins apply and
             roll back. The requester or an admin withdraws. A revoked identity does nothing.
`four-eyes`  Nobody approves what they requested, or a model that they trained.
`one-person` A person counts once, whatever keys and identities they have; identities of one name are one person. Somebody whose
             name was erased is nobody in particular, and does not approve.
`expired`    Nothing is approved or applied after the request's end, nor by a policy after its own.
`policy`     The policy is the one that the gates were judged by.
`champion`   The champion is the one that the request expects; when another is put in, the request is superseded.
`evidence`   The gate results are the ones that were approved.
`binding`    An approval says what is approved: package, policy, evidence, environment, expected champion and end. If one of these
             is another, it is void.
`signature`  An approval is signed with the approver's own key, by somebody who was there, in that role, when it was signed.
`duplicate`  Nobody approves twice, and one version is requested for one environment once at a time.
`previous`   Rollback returns to the champion before, and there is one.

Identity, clock and store are the caller's: nothing here reads a time or a table.
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from governance.errors import RefusedError
from governance.identity import Identity, Role

REQUESTERS: Final = frozenset({Role.DATA_SCIENTIST, Role.OPS, Role.ADMIN})
OPERATORS: Final = frozenset({Role.OPS, Role.ADMIN})


class State(StrEnum):
    """Where a request stands."""

    GATED = "gated"
    AWAITING = "awaiting-approval"
    APPROVED = "approved"
    APPLIED = "applied"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled-back"


class Action(StrEnum):
    """What may happen to a request."""

    APPROVE = "approve"
    COMPLETE = "complete"  # the last approval needed came in
    REJECT = "reject"
    WITHDRAW = "withdraw"
    APPLY = "apply"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"  # another was put in
    ROLL_BACK = "roll-back"
    RESTORE = "restore"  # the one after it was rolled back


OPEN: Final = frozenset({State.AWAITING, State.APPROVED})
TRANSITIONS: Final[Mapping[tuple[State, Action], State]] = {
    (State.AWAITING, Action.APPROVE): State.AWAITING,
    (State.AWAITING, Action.COMPLETE): State.APPROVED,
    (State.AWAITING, Action.REJECT): State.REJECTED,
    (State.AWAITING, Action.WITHDRAW): State.WITHDRAWN,
    (State.AWAITING, Action.EXPIRE): State.EXPIRED,
    (State.AWAITING, Action.SUPERSEDE): State.SUPERSEDED,
    (State.APPROVED, Action.APPLY): State.APPLIED,
    (State.APPROVED, Action.REJECT): State.REJECTED,
    (State.APPROVED, Action.WITHDRAW): State.WITHDRAWN,
    (State.APPROVED, Action.EXPIRE): State.EXPIRED,
    (State.APPROVED, Action.SUPERSEDE): State.SUPERSEDED,
    (State.APPLIED, Action.SUPERSEDE): State.SUPERSEDED,
    (State.APPLIED, Action.ROLL_BACK): State.ROLLED_BACK,
    (State.SUPERSEDED, Action.RESTORE): State.APPLIED,
}


class RuleError(RefusedError):
    """A rule of promotion does not allow it.

    Args:
        rule: The rule, as it is called above.
        diagnosis: One line that says what is wrong, naming the subject.
        hint: One line that says what to do about it.
    """

    def __init__(self, rule: str, diagnosis: str, *, hint: str = "") -> None:
        super().__init__(f"{diagnosis} (rule {rule})", hint=hint)
        self.rule = rule


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version that an environment's alias names.

    Attributes:
        version: Its version.
        root_digest: The root digest of its package.
        promotion_id: The request that put it in.
        since: When.
        expires: When it is to be validated again.
    """

    version: int
    root_digest: str
    promotion_id: str
    since: str
    expires: str


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """One request.

    Attributes:
        promotion_id: What it is called.
        name: The model.
        version: Its version.
        root_digest: The root digest of its package.
        environment: Where it is to go.
        policy_digest: The policy that its gates were judged by.
        evidence_root: Digest of the gate results.
        requester: Who asked, an identity's id.
        trainers: Who ran the training and the run that registered it, identities' ids; none where that is not on record.
        expected_version: The champion that it is to take the place of; None for none.
        expected_digest: The root digest of that champion's package.
        requested: When, RFC 3339 UTC.
        expires: Until when it may be approved and applied.
        state: Where it stands.
        previous: The request whose version was the champion before this one was applied.
        approvers: Who has approved it, identities' ids, oldest first.
    """

    promotion_id: str
    name: str
    version: int
    root_digest: str
    environment: str
    policy_digest: str
    evidence_root: str
    requester: str
    trainers: tuple[str, ...]
    expected_version: int | None
    expected_digest: str | None
    requested: str
    expires: str
    state: State
    previous: str | None = None
    approvers: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The version's name in ledger and lineage."""
        return f"model-version:{self.name}/{self.version}"

    def after(self, action: Action) -> "Promotion":
        """Returns the request after an action.

        Raises:
            RuleError: The action does not fit its state.
        """
        after = TRANSITIONS.get((self.state, action))
        if after is None:
            raise RuleError("state", f"request {self.promotion_id} is {self.state}: it cannot {action}", hint=_state_hint(self))
        return replace(self, state=after)


@dataclass(frozen=True, kw_only=True)
class Needed:
    """The approvals that a policy asks for.

    Attributes:
        count: How many people.
        roles: The roles that approve.
        at_least: How many of them must have a role, by role.
    """

    count: int
    roles: Collection[Role]
    at_least: Mapping[Role, int]

    def are_met(self, approvers: Iterable[Identity]) -> bool:
        """Says whether some people's approvals are enough."""
        roles = [approver.role for approver in approvers]
        return len(roles) >= self.count and all(roles.count(role) >= number for role, number in self.at_least.items())


def check_actor(actor: Identity, roles: Collection[Role], what: str) -> None:
    """Checks that somebody may act.

    Raises:
        RuleError: They were revoked, or have another role.
    """
    if not actor.is_active:
        raise RuleError("role", f"identity {actor.identity_id} was revoked on {actor.revoked}")
    if actor.role not in roles:
        wanted = " or ".join(sorted(roles))
        raise RuleError(
            "role",
            f"identity {actor.identity_id} is {actor.role}, and to {what} takes {wanted}",
            hint="act as one: --as IDENTITY",
        )


def check_approver(promotion: Promotion, approver: Identity, needed: Needed, people: Mapping[str, Identity]) -> None:
    """Checks that somebody may approve a request, as it stands.

    Args:
        promotion: The request.
        approver: Who wants to approve.
        needed: What its policy asks for.
        people: Every identity by its id, revoked ones too.

    Raises:
        RuleError: They may not.
    """
    promotion.after(Action.APPROVE)
    check_actor(approver, needed.roles, "approve")
    if approver.identity_id in promotion.approvers:
        raise RuleError("duplicate", f"identity {approver.identity_id} has approved request {promotion.promotion_id} already")
    if approver.name is None:
        raise RuleError("one-person", f"the name of identity {approver.identity_id} was erased: nobody can say who approves")
    for other, did in ((promotion.requester, "requested it"), *((one, "trained the model") for one in promotion.trainers)):
        if other == approver.identity_id:
            raise RuleError(
                "four-eyes",
                f"identity {other} cannot approve request {promotion.promotion_id}: they {did}",
                hint="somebody else has to",
            )
        if _is_same_person(approver, people.get(other)):
            raise RuleError(
                "four-eyes",
                f"identity {approver.identity_id} cannot approve request {promotion.promotion_id}: identity {other}, who {did}, "
                "is the same person",
                hint="somebody else has to",
            )
    for other in promotion.approvers:
        if _is_same_person(approver, people.get(other)):
            raise RuleError(
                "one-person", f"identity {approver.identity_id} is the same person as {other}, who has approved already"
            )


def check_withdraw(promotion: Promotion, actor: Identity) -> None:
    """Checks that somebody may take a request back.

    Raises:
        RuleError: They may not.
    """
    promotion.after(Action.WITHDRAW)
    check_actor(actor, REQUESTERS, "withdraw")
    if actor.identity_id != promotion.requester and actor.role is not Role.ADMIN:
        raise RuleError(
            "role", f"request {promotion.promotion_id} is withdrawn by {promotion.requester}, who made it, or an admin"
        )


def check_unexpired(promotion: Promotion, now: str) -> None:
    """Checks that a request has not ended by itself.

    Raises:
        RuleError: It has.
    """
    if now >= promotion.expires:
        raise RuleError("expired", f"request {promotion.promotion_id} expired on {promotion.expires}", hint="request it again")


def check_champion(promotion: Promotion, champion: Champion | None) -> None:
    """Checks that the champion is the one that a request expects.

    Raises:
        RuleError: It is another.
    """
    found = (champion.version, champion.root_digest) if champion else (None, None)
    if found != (promotion.expected_version, promotion.expected_digest):
        raise RuleError(
            "champion",
            f"request {promotion.promotion_id} expects {_named(promotion.name, promotion.expected_version)} in "
            f"{promotion.environment}, and {_named(promotion.name, found[0])} is there",
            hint="request it again, so that it is judged against this champion",
        )


def check_policy(promotion: Promotion, policy_digest: str) -> None:
    """Checks that an environment's policy is the one that a request was judged by.

    Raises:
        RuleError: It is another.
    """
    if policy_digest != promotion.policy_digest:
        raise RuleError(
            "policy",
            f"the policy of {promotion.environment} was changed since request {promotion.promotion_id} was judged by it",
            hint="request it again, so that it is judged by this policy",
        )


def _is_same_person(one: Identity, other: Identity | None) -> bool:
    if other is None:
        return False
    return one.identity_id == other.identity_id or (None not in {one.name, other.name} and _folded(one) == _folded(other))


def _folded(person: Identity) -> str:
    """Returns a name without what two spellings of it may differ in: case, width, spaces."""
    return "".join(unicodedata.normalize("NFKC", person.name or "").casefold().split())


def _named(name: str, version: int | None) -> str:
    return f"{name}/{version}" if version is not None else "no version"


def _state_hint(promotion: Promotion) -> str:
    return "" if promotion.state in OPEN else f"`groundswell promote status {promotion.promotion_id}` says how it ended"
