"""Every way in which somebody might get a version in that should not: refused by name, on record, and nothing changed."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, event, insert, text, update

from governance.errors import IntegrityError, RefusedError
from governance.identity import Role
from governance.promotion.approval import approval_of
from governance.promotion.state import RuleError, State
from infra.attestations import sign_with
from infra.errors import BackendUnavailableError
from infra.identities import create_identity, revoke_identity
from infra.promotion.approvals import apply, approve, settle, withdraw
from infra.promotion.policies import set_policy
from infra.promotion.records import find_promotion
from infra.tables import attestations, lineage_edges, lineage_events, model_versions, promotions, withdrawals
from tests.infra.promotion.world import policy

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def rule_of(call):
    with pytest.raises(RuleError) as caught:
        call()
    return caught.value.rule


def state_of(world, promotion):
    with world.db.read() as connection:
        return find_promotion(connection, promotion.promotion_id).state


def test_two_keys_of_one_person_count_once(world):
    twin = create_identity(world.db, world.home.keys, name="OLGA", role=Role.OPS, actor=world.people["Admin"])
    promotion = world.approve(world.request(1), "Olga")
    assert rule_of(lambda: approve(world.home, promotion.promotion_id, actor=twin.identity_id)) == "one-person"
    trainer = create_identity(world.db, world.home.keys, name="ada", role=Role.OPS, actor=world.people["Admin"])
    assert rule_of(lambda: approve(world.home, promotion.promotion_id, actor=trainer.identity_id)) == "four-eyes"
    assert world.entries()[-2:] == [("promotion.refused", twin.identity_id), ("promotion.refused", trainer.identity_id)]
    assert world.alias() is None


def test_an_approval_counts_no_longer_once_its_key_was_revoked(world):
    set_policy(world.db, policy(application="manual"), actor=world.people["Admin"])
    promotion = world.approve(world.request(1), "Olga", "Omar")
    assert promotion.state is State.APPROVED
    revoke_identity(world.db, identity_id=world.people["Olga"], actor=world.people["Admin"])
    assert rule_of(lambda: apply(world.home, promotion.promotion_id, actor=world.people["Admin"])) == "signature"
    assert rule_of(lambda: world.approve(world.request(2), "Olga")) == "role"
    assert world.alias() is None


def test_the_last_approval_leaves_the_application_to_somebody_if_the_policy_says_so(world):
    set_policy(world.db, policy(application="manual"), actor=world.people["Admin"])
    promotion = world.approve(world.request(1), "Olga", "Omar")
    assert rule_of(lambda: apply(world.home, promotion.promotion_id, actor=world.people["Ada"])) == "role"
    assert apply(world.home, promotion.promotion_id, actor=world.people["Omar"]).state is State.APPLIED
    assert rule_of(lambda: apply(world.home, promotion.promotion_id, actor=world.people["Omar"])) == "state"
    assert world.alias() == 1
    assert world.problems() == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"environment": "staging"}, "binding"),
        ({"root_digest": "00" * 32}, "binding"),
        ({"policy_digest": "00" * 32}, "binding"),
        ({"evidence_root": "00" * 32}, "binding"),
        ({"expected_version": 7, "expected_digest": "00" * 32}, "binding"),
        ({"expires": "2040-01-01T00:00:00.000000Z"}, "binding"),
        ({"role": "admin"}, "signature"),
        ({"signed": "2020-01-01T00:00:00.000000Z"}, "signature"),
        ({"signed": "2040-01-01T00:00:00.000000Z"}, "signature"),
        ({"signed": "yesterday"}, "signature"),
    ],
)
def test_an_approval_that_says_something_else_is_void(world, change, rule):
    promotion, olga = world.request(1), world.people["Olga"]
    real = approval_of(promotion, approver=olga, role="ops", signed=promotion.requested)
    forged = type(real)(**{**vars(real), **change})
    envelope = sign_with(forged.statement(), world.home.keys.person_private_key(olga))
    assert rule_of(lambda: approve(world.home, promotion.promotion_id, actor=olga, envelope=envelope)) == rule
    assert world.entries()[-1] == ("promotion.refused", olga)


@pytest.mark.parametrize("forge", ["another key", "another name", "no envelope", "two signatures"])
def test_an_approval_that_its_approver_did_not_sign_is_no_evidence(world, forge):
    promotion, olga, omar = world.request(1), world.people["Olga"], world.people["Omar"]
    keys = world.home.keys
    named = approval_of(promotion, approver=olga, role="ops", signed=promotion.requested)
    envelope = sign_with(named.statement(), keys.person_private_key(omar if forge == "another key" else olga))
    if forge == "another name":
        other = approval_of(promotion, approver=omar, role="ops", signed=promotion.requested)
        envelope = sign_with(other.statement(), keys.person_private_key(olga))
    elif forge == "no envelope":
        envelope = json.dumps({"payload": "e30="})
    elif forge == "two signatures":
        document = json.loads(envelope)
        document["signatures"] *= 2
        envelope = json.dumps(document, separators=(",", ":"), sort_keys=True)
    with pytest.raises(IntegrityError, match=r"does not hold|says that it is by"):
        approve(world.home, promotion.promotion_id, actor=olga, envelope=envelope)
    assert state_of(world, promotion) is State.AWAITING
    assert world.entries()[-1] == ("promotion.refused", olga)


def test_a_request_ends_by_itself(world):
    promotion = world.approve(world.request(1), "Olga")
    world.db._clock = lambda: LATER
    assert [one.promotion_id for one in settle(world.db)] == [promotion.promotion_id]
    assert rule_of(lambda: world.approve(promotion, "Omar")) == "state"
    assert state_of(world, promotion) is State.EXPIRED
    assert world.problems() == ()


def test_a_policy_whose_time_is_over_lets_nothing_in(world):
    today = datetime.now(UTC).date()
    set_policy(world.db, policy(valid_until=today.isoformat()), actor=world.people["Admin"])
    promotion = world.approve(world.request(1), "Olga")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    world.db._clock = lambda: tomorrow
    assert rule_of(lambda: world.approve(promotion, "Omar")) == "expired"
    assert rule_of(lambda: world.request(2)) == "expired"


def test_a_package_registered_anew_under_the_same_version_is_another(world):
    promotion = world.approve(world.request(1), "Olga")
    with world.db.engine.begin() as connection:
        key = (model_versions.c.version == 1,)
        connection.execute(update(model_versions).where(*key).values(root_digest="00" * 32))
    assert rule_of(lambda: world.approve(promotion, "Omar")) == "binding"


def test_gate_results_changed_after_the_first_approval_are_noticed(world):
    promotion = world.approve(world.request(1), "Olga")
    with world.db.engine.begin() as connection:
        row = connection.execute(text("SELECT evidence FROM gs_promotions")).scalar_one()
        connection.execute(update(promotions).values(evidence=row.replace("0.0731", "0.0031")))
    assert rule_of(lambda: world.approve(promotion, "Omar")) == "evidence"
    assert any("evidence" in problem for problem in world.problems())


def test_data_withdrawn_since_the_request_hold_it_up(world):
    promotion = world.approve(world.request(1), "Olga")
    dataset = "da" * 32
    with world.db.engine.begin() as connection:
        values = {"run_id": "r", "job": "j", "event_type": "COMPLETE", "time": "", "event": "{}"}
        event_id = connection.execute(insert(lineage_events).values(**values)).inserted_primary_key[0]
        edge = {"source": f"dataset:{dataset}", "target": f"package:{promotion.root_digest}", "event_id": event_id}
        connection.execute(insert(lineage_edges).values(**edge))
        row = {"dataset": dataset, "item": "ab" * 32, "reason_commitment": "", "actor": "system", "created": ""}
        connection.execute(insert(withdrawals).values(**row))
    with pytest.raises(RuleError, match="withdrawn") as caught:
        world.approve(promotion, "Omar")
    assert caught.value.rule == "evidence"


def test_the_champion_is_validated_anew_by_requesting_it_again(world):
    first, second = world.promote(1), world.promote(2)
    assert rule_of(lambda: [world.request(3), world.request(3)]) == "duplicate"
    again = world.promote(2)
    assert again.previous == first.promotion_id
    assert state_of(world, second) is State.SUPERSEDED
    assert world.alias() == 2
    assert world.problems() == ()


def test_who_may_not_even_ask(world):
    assert rule_of(lambda: world.request(1, by="Alan")) == "role"
    with pytest.raises(RefusedError):
        set_policy(world.db, policy(), actor=world.people["Olga"])


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_a_full_disk_changes_nothing(world):
    promotion = world.approve(world.request(1), "Olga")
    world.db.close()

    @event.listens_for(world.db.engine, "connect")
    def fill(connection, _):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        connection.execute("PRAGMA cache_size = 10")

    def keep_asking():
        for _ in range(200):
            withdraw(world.home, world.request(2).promotion_id, actor=world.people["Ada"])

    with pytest.raises(BackendUnavailableError, match="no room left"):
        keep_asking()
    assert world.problems() == ()
    event.remove(world.db.engine, "connect", fill)
    world.db.close()
    assert world.approve(promotion, "Omar").state is State.APPLIED
    assert world.problems() == ()


def test_the_ledger_says_it_where_a_table_was_rewritten(world):
    world.promote(1)
    promotion = world.approve(world.request(2), "Olga")
    with world.db.engine.begin() as connection:
        connection.execute(update(promotions).where(promotions.c.version == 2).values(state="approved"))
        connection.execute(delete(attestations).where(attestations.c.signer == world.people["Olga"]))
    problems = " ".join(world.problems())
    assert f"request {promotion.promotion_id}: state is 'approved'" in problems
    assert "was applied without the approvals" in problems
