"""A version on its way into production: requested, gated, approved by two, applied, rolled back; and every refusal on record."""

from pathlib import Path

import pytest
from sqlalchemy import text

from governance.errors import IntegrityError, RefusedError
from governance.promotion.state import RuleError, State
from infra.promotion.approvals import approve, reject, settle, sign_approval, withdraw
from infra.promotion.policies import set_policy
from infra.promotion.requests import GatedError
from infra.promotion.rollback import roll_back
from tests.infra.package_inputs import NAME
from tests.infra.promotion.world import ATTEMPTS, policy


def test_two_people_let_a_version_into_production(world):
    promotion = world.request(1)
    assert promotion.state is State.AWAITING
    assert promotion.trainers == (world.people["Ada"],)
    assert world.approve(promotion, "Olga").state is State.AWAITING
    assert world.alias() is None
    assert world.approve(promotion, "Admin").state is State.APPLIED
    assert world.alias() == 1
    assert [action for action, _ in world.entries()] == [
        "promotion.requested",
        "promotion.approved",
        "promotion.approved",
        "promotion.applied",
    ]
    assert world.problems() == ()


def test_the_next_champion_supersedes_the_one_before_and_rollback_brings_it_back(world):
    first, second = world.promote(1), world.promote(2)
    assert world.alias() == 2
    gone, back = roll_back(world.home, NAME, "production", actor=world.people["Omar"], reason="it draws six fingers")
    assert (gone.promotion_id, back.promotion_id, back.state) == (second.promotion_id, first.promotion_id, State.APPLIED)
    assert world.alias() == 1
    with pytest.raises(RuleError) as caught:
        roll_back(world.home, NAME, "production", actor=world.people["Omar"], reason="again")
    assert caught.value.rule == "previous"
    assert world.promote(3).previous == first.promotion_id
    assert world.problems() == ()


def test_a_gate_refuses_and_says_why(world):
    set_policy(world.db, policy(gates={"thresholds": [{"metric": "kid", "max": 0.01}]}), actor=world.people["Admin"])
    with pytest.raises(GatedError, match=r"kid is 0\.0731") as caught:
        world.request(1)
    promotion = caught.value.requested.promotion
    assert promotion.state is State.GATED
    with pytest.raises(RuleError) as refused:
        world.approve(promotion, "Olga")
    assert refused.value.rule == "state"
    assert world.problems() == ()


@pytest.mark.parametrize(("requester", "approver", "rule"), [("Olga", "Olga", "four-eyes"), ("Olga", "Alan", "role")])
def test_who_may_not_approve(world, requester, approver, rule):
    promotion = world.request(1, by=requester)
    with pytest.raises(RuleError) as caught:
        world.approve(promotion, approver)
    assert caught.value.rule == rule
    assert world.entries()[-1] == ("promotion.refused", world.people[approver])


def test_an_approval_is_of_this_request_alone(world):
    first = world.request(1)
    envelope = sign_approval(world.home, first.promotion_id, actor=world.people["Olga"])
    withdraw(world.home, first.promotion_id, actor=world.people["Ada"])
    again = world.request(1)
    with pytest.raises(RuleError, match="request") as caught:
        approve(world.home, again.promotion_id, actor=world.people["Olga"], envelope=envelope)
    assert caught.value.rule == "binding"
    with pytest.raises(IntegrityError):
        approve(world.home, again.promotion_id, actor=world.people["Omar"], envelope=envelope)
    assert world.problems() == ()


def test_a_policy_changed_in_between_voids_the_request(world):
    promotion = world.request(1)
    world.approve(promotion, "Olga")
    set_policy(world.db, policy(champion_valid_days=10), actor=world.people["Admin"])
    with pytest.raises(RuleError) as caught:
        world.approve(promotion, "Omar")
    assert caught.value.rule == "policy"


def test_a_champion_put_in_meanwhile_supersedes_other_requests(world):
    waiting = world.request(2)
    world.promote(1)
    with pytest.raises(RuleError) as caught:
        world.approve(waiting, "Olga")
    assert caught.value.rule == "state"
    assert world.alias() == 1


def test_a_package_altered_after_the_first_approval_is_refused(world):
    promotion = world.approve(world.request(1), "Olga")
    weights = Path(world.version(1).location.removeprefix("file://")) / "transformer.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IntegrityError, match=r"transformer\.safetensors"):
            world.approve(promotion, "Omar")
    finally:
        weights.write_bytes(whole)
    assert world.alias() is None
    assert world.entries()[-1][0] == "promotion.refused"
    assert world.approve(promotion, "Omar").state is State.APPLIED


def test_who_rejects_and_withdraws(world):
    promotion = world.request(1)
    with pytest.raises(RefusedError):
        withdraw(world.home, promotion.promotion_id, actor=world.people["Olga"])
    assert reject(world.home, promotion.promotion_id, actor=world.people["Olga"], reason="blurry").state is State.REJECTED
    assert withdraw(world.home, world.request(1).promotion_id, actor=world.people["Ada"]).state is State.WITHDRAWN
    assert settle(world.db) == []
    assert world.problems() == ()


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=list(ATTEMPTS))
def test_mlflows_own_client_cannot_get_around_it(world, attempt):
    from mlflow.exceptions import MlflowException

    world.promote(1)
    with pytest.raises(MlflowException, match=r"groundswell governs .* use `groundswell promote"):
        attempt(world.mlflow())
    assert world.alias() == 1
    assert world.problems() == ()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE registered_model_aliases SET version = 2",
        "DELETE FROM registered_model_aliases",
        "UPDATE model_versions SET source = '/elsewhere' WHERE version = 1",
        "UPDATE gs_champions SET version = 2",
        "UPDATE gs_champions SET entry_index = entry_index + 1",
        "DELETE FROM gs_champions",
        "DELETE FROM model_versions WHERE version = 1",
        "UPDATE registered_models SET name = 'mine'",
    ],
)
def test_plain_sql_cannot_get_around_it(world, statement):
    from sqlalchemy.exc import DBAPIError

    world.promote(1)
    with pytest.raises(DBAPIError), world.db.engine.begin() as connection:
        connection.execute(text(statement))
    assert world.alias() == 1


def test_what_is_not_governed_stays_free(world):
    client = world.mlflow()
    client.set_registered_model_alias(NAME, "best", "2")
    client.set_model_version_tag(NAME, "1", "note", "good")
    client.update_model_version(NAME, "1", description="the first")
    client.delete_model_version(NAME, "3")
    assert world.alias("best") == 2
