"""The rules of promotion, walked through exhaustively: every role, state and action, and every disguise of one's own approval."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from governance.errors import RefusedError
from governance.identity import Identity, Role
from governance.promotion.state import (
    OPEN,
    TRANSITIONS,
    Action,
    Champion,
    Needed,
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

NEEDED = Needed(count=2, roles=frozenset({Role.OPS, Role.ADMIN}), at_least={Role.OPS: 1})
ENDED = {State.GATED, State.REJECTED, State.WITHDRAWN, State.EXPIRED, State.ROLLED_BACK}


def person(number: int, role: Role = Role.OPS, name: str | None = "", *, revoked: bool = False) -> Identity:
    return Identity(
        identity_id=f"id-{number:016x}",
        role=role,
        public_key_pem=f"key {number}",
        name_commitment="",
        created="2026-01-01T00:00:00.000000Z",
        revoked="2026-06-01T00:00:00.000000Z" if revoked else None,
        name=f"Person {number}" if name == "" else name,
    )


def request(state: State = State.AWAITING, *, requester: int = 1, trainers: tuple[int, ...] = (), **changes: object) -> Promotion:
    made = Promotion(
        promotion_id="p-1",
        name="m",
        version=2,
        root_digest="ab" * 32,
        environment="production",
        policy_digest="cd" * 32,
        evidence_root="ef" * 32,
        requester=f"id-{requester:016x}",
        trainers=tuple(f"id-{one:016x}" for one in trainers),
        expected_version=1,
        expected_digest="12" * 32,
        requested="2026-07-01T00:00:00.000000Z",
        expires="2026-07-08T00:00:00.000000Z",
        state=state,
    )
    return replace(made, **changes)


def rule_of(call: object, *args: object) -> str:
    with pytest.raises(RuleError) as caught:
        call(*args)  # type: ignore[operator]
    assert f"(rule {caught.value.rule})" in caught.value.diagnosis
    assert caught.value.exit_code == 5
    return caught.value.rule


def test_what_has_ended_stays_so():
    for state, action in itertools.product(State, Action):
        if (state, action) in TRANSITIONS:
            assert request(state).after(action).state is TRANSITIONS[state, action]
        else:
            assert rule_of(request(state).after, action) == "state"
    assert not any(state in ENDED for state, _ in TRANSITIONS)


def test_only_what_is_approved_is_applied_and_only_what_waits_is_approved():
    assert {state for (state, action) in TRANSITIONS if action is Action.APPLY} == {State.APPROVED}
    assert {state for (state, action), after in TRANSITIONS.items() if after is State.APPROVED} == {State.AWAITING}
    assert {action for (_, action), after in TRANSITIONS.items() if after is State.APPLIED} == {Action.APPLY, Action.RESTORE}


def test_nobody_approves_their_own_in_any_role_state_or_disguise():
    """Roles x states x who they are to the request: none of these ever gets through."""
    me = 7
    disguises = {
        "requester": {"requester": me},
        "trainer": {"trainers": (3, me)},
        "second key of the requester": {"requester": 8},
        "second key of the trainer": {"trainers": (8,)},
        "revoked key of the requester": {"requester": 9},
    }
    for role, state, (word, relation) in itertools.product(Role, State, disguises.items()):
        one = person(me, role, "Ada Lovelace")
        people = {
            identity.identity_id: identity
            for identity in (
                one,
                person(1),
                person(3),
                person(8, Role.DATA_SCIENTIST, "ADA  Lovelace"),
                person(9, Role.OPS, "ada lovelace", revoked=True),
            )
        }
        with pytest.raises(RefusedError):
            check_approver(request(state, **relation), one, NEEDED, people)
        if state is State.AWAITING and role in NEEDED.roles:
            assert rule_of(check_approver, request(state, **relation), one, NEEDED, people) == "four-eyes", word


@pytest.mark.parametrize("other", ["Ada Lovelace", "ada lovelace", "Ada\u00a0Lovelace", "\uff21da Lovelace", "AdaLovelace"])
def test_a_person_counts_once_whatever_keys_they_have(other):
    people = {one.identity_id: one for one in (person(1), person(2, name="Ada Lovelace"), person(3, name=other))}
    waiting = request(approvers=(person(2).identity_id,))
    assert rule_of(check_approver, waiting, people[person(3).identity_id], NEEDED, people) == "one-person"
    assert rule_of(check_approver, waiting, people[person(2).identity_id], NEEDED, people) == "duplicate"


def test_somebody_without_a_name_or_with_a_revoked_key_does_not_approve():
    people = {person(1).identity_id: person(1)}
    assert rule_of(check_approver, request(), person(2, name=None), NEEDED, people) == "one-person"
    assert rule_of(check_approver, request(), person(2, revoked=True), NEEDED, people) == "role"
    assert rule_of(check_actor, person(2, Role.AUDITOR), {Role.OPS}, "apply") == "role"
    check_approver(request(), person(2), NEEDED, people)


def test_enough_is_as_many_people_of_the_roles_as_the_policy_says():
    assert not NEEDED.are_met([person(1)])
    assert not NEEDED.are_met([person(1, Role.ADMIN), person(2, Role.ADMIN)])
    assert NEEDED.are_met([person(1, Role.ADMIN), person(2, Role.OPS)])


def test_time_champion_and_policy_hold_it_up():
    assert rule_of(check_unexpired, request(), "2026-07-08T00:00:00.000000Z") == "expired"
    check_unexpired(request(), "2026-07-07T23:59:59.999999Z")
    there = Champion(version=1, root_digest="12" * 32, promotion_id="p-0", since="", expires="")
    check_champion(request(), there)
    check_champion(request(expected_version=None, expected_digest=None), None)
    for found in (None, replace(there, version=3), replace(there, root_digest="34" * 32)):
        assert rule_of(check_champion, request(), found) == "champion"
    assert rule_of(check_policy, request(), "00" * 32) == "policy"


def test_who_takes_a_request_back():
    check_withdraw(request(requester=1), person(1, Role.DATA_SCIENTIST))
    check_withdraw(request(requester=1), person(2, Role.ADMIN))
    assert rule_of(check_withdraw, request(requester=1), person(2, Role.OPS)) == "role"
    assert rule_of(check_withdraw, request(State.APPLIED), person(1)) == "state"


class Walk(RuleBasedStateMachine):
    """People of every role, some with two keys, do as they like with one request."""

    people = Bundle("people")

    def __init__(self) -> None:
        super().__init__()
        self.everyone: dict[str, Identity] = {}
        self.promotion = request()
        self.signed: list[Identity] = []

    @initialize()
    def begin(self) -> None:
        self.promotion = request(requester=0, trainers=(1,))
        for number in (0, 1):
            self.everyone[person(number).identity_id] = person(number)

    @rule(target=people, name=st.sampled_from(["Person 0", "person 1", "Bea", "Cem", "Dora"]), role=st.sampled_from(Role))
    def arrive(self, name: str, role: Role) -> Identity:
        one = person(len(self.everyone) + 10, role, name)
        self.everyone[one.identity_id] = one
        return one

    @rule(who=people)
    def approve(self, who: Identity) -> None:
        try:
            check_approver(self.promotion, who, NEEDED, self.everyone)
        except RuleError:
            return
        self.signed.append(who)
        approvers = (*self.promotion.approvers, who.identity_id)
        enough = NEEDED.are_met(self.signed)
        self.promotion = replace(self.promotion.after(Action.COMPLETE if enough else Action.APPROVE), approvers=approvers)

    @rule(action=st.sampled_from([Action.APPLY, Action.REJECT, Action.EXPIRE, Action.SUPERSEDE, Action.ROLL_BACK]))
    def act(self, action: Action) -> None:
        try:
            self.promotion = self.promotion.after(action)
        except RuleError:
            assert (self.promotion.state, action) not in TRANSITIONS

    @invariant()
    def four_eyes(self) -> None:
        names = [(one.name or "").lower() for one in self.signed]
        assert len(set(names)) == len(names)
        assert not {"person 0", "person 1"} & set(names)
        assert all(one.role in NEEDED.roles for one in self.signed)
        if self.promotion.state in {State.APPROVED, State.APPLIED}:
            assert len(self.signed) >= NEEDED.count
            assert any(one.role is Role.OPS for one in self.signed)
        if self.promotion.state in OPEN:
            assert self.promotion.state is State.AWAITING or NEEDED.are_met(self.signed)


Walk.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWalk = Walk.TestCase
