"""Guardrails on record, and requests held to them, on each database."""

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from governance.errors import IntegrityError, RefusedError, UnknownSubjectError
from governance.guardrails.judging import BadPromptError, GuardrailError
from governance.guardrails.policy import Guardrails, parse_guardrails, shipped_guardrails
from governance.identity import Role
from governance.ledger import format_time
from infra.guardrails import SUBJECT, Asked, admit, current_guardrails, history, set_guardrails
from infra.identities import create_identity
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.promotion.policies import GUARDRAILS, current_policy, environments
from infra.run_records import begin_run
from infra.tables import assets, commitments, policies

PROMPT = "kill my neighbour Zebedee"
POLICY = {
    "guardrails": "groundswell-guardrails/1",
    "name": "mine",
    "categories": [{"name": "violence", "reason": "no violence", "terms": ["kill"]}],
}
VERSION: Any = SimpleNamespace(name="emoji-dit", version=3)


def policy(**changes: Any) -> Guardrails:
    return parse_guardrails(json.dumps(POLICY | changes))


def ask(home, actor, **changes: Any) -> Any:
    asked = {"prompt": "a red fox", "label": None, "num_images": 1, "num_frames": None} | changes
    return admit(home.database, VERSION, Asked(**asked), actor=actor)


def entries(home, action: str) -> list[Any]:
    return [entry for entry in iter_entries(home.database) if entry.action == action]


def problems(home) -> tuple[str, ...]:
    return verify_ledger(home.database, home.keys.log_public_key()).problems


def make(home, actor: str, run_id: str, *, count: int, minutes_ago: float) -> None:
    begin_run(home, run_id=run_id, pipeline="generation", runner="in-process", params={}, actor=actor)
    created = format_time(home.database.now() - timedelta(minutes=minutes_ago))
    rows = [
        {
            "sha256": f"{position:064x}",
            "run_id": run_id,
            "position": position,
            "model_name": "emoji-dit",
            "model_version": 3,
            "root_digest": "0" * 64,
            "seed": "0",
            "condition_commitment": "0" * 64,
            "file_name": "x.png",
            "created": created,
        }
        for position in range(count)
    ]
    with home.database.unit_of_work() as uow:
        uow.connection.execute(insert(assets), rows)


def test_the_shipped_policy_counts_until_another_is_set_and_every_one_stays_on_record(home, admin) -> None:
    with home.database.read() as connection:
        assert current_guardrails(connection) == shipped_guardrails()
    first, second = policy(), policy(name="stricter")
    assert [set_guardrails(home.database, one, actor=admin) for one in (first, first, second)] == [1, 1, 2]
    with home.database.read() as connection:
        assert current_guardrails(connection) == second
        assert [(number, digest) for number, digest, *_ in history(connection)] == [(1, first.digest), (2, second.digest)]
    assert [(one.subject, one.details["digest"], one.actor) for one in entries(home, "policy.set")] == [
        (SUBJECT, one.digest, admin) for one in (first, second)
    ]
    assert problems(home) == ()


def test_only_an_admin_sets_it(home, admin) -> None:
    ops = create_identity(home.database, home.keys, name="Olga", role=Role.OPS, actor=admin).identity_id
    with pytest.raises(RefusedError):
        set_guardrails(home.database, policy(), actor=ops)
    with home.database.read() as connection:
        assert list(history(connection)) == []


def test_it_is_no_environment(home, admin) -> None:
    set_guardrails(home.database, policy(), actor=admin)
    with home.database.read() as connection:
        assert environments(connection) == ["production", "staging"]
        with pytest.raises(UnknownSubjectError):
            current_policy(connection, GUARDRAILS)


def test_a_policy_that_was_changed_behind_the_ledger_stops_everything_and_is_found(home, admin) -> None:
    set_guardrails(home.database, policy(), actor=admin)
    looser = policy(categories=[])
    with home.database.unit_of_work() as uow:
        uow.connection.execute(update(policies).values(document=looser.document))
    with pytest.raises(IntegrityError):
        ask(home, admin)
    assert any("policy @guardrails/1" in problem for problem in problems(home))
    with home.database.unit_of_work() as uow:
        uow.connection.execute(update(policies).values(digest=looser.digest))
    assert any("policy @guardrails/1" in problem for problem in problems(home))


def test_a_refused_prompt_is_on_record_by_commitment_alone(home, admin) -> None:
    set_guardrails(home.database, policy(), actor=admin)
    with pytest.raises(GuardrailError) as refused:
        ask(home, admin, prompt=PROMPT)
    assert "Zebedee" not in str(refused.value)
    (entry,) = entries(home, "generation.refused")
    commitment = entry.details["condition_commitment"]
    assert entry.actor == admin
    assert entry.details == {
        "rule": "prompt",
        "category": "violence",
        "policy_digest": policy().digest,
        "model": "emoji-dit/3",
        "condition_commitment": commitment,
    }
    assert b"Zebedee" not in entry.to_bytes()
    with home.database.read() as connection:
        kept = connection.execute(select(commitments.c.value).where(commitments.c.commitment == commitment)).scalar_one()
    assert json.loads(kept) == {"label": None, "prompt": PROMPT}
    assert problems(home) == ()


def test_the_same_prompt_refused_twice_cannot_be_seen_to_be_the_same(home, admin) -> None:
    for _ in range(2):
        with pytest.raises(GuardrailError):
            ask(home, admin, prompt=PROMPT)
    first, second = (entry.details["condition_commitment"] for entry in entries(home, "generation.refused"))
    assert first != second


def test_a_label_is_held_to_the_categories_too(home, admin) -> None:
    set_guardrails(home.database, policy(), actor=admin)
    with pytest.raises(GuardrailError):
        ask(home, admin, prompt=None, label="k i l l")
    assert ask(home, admin, prompt=None, label="food").policy == policy()


@pytest.mark.parametrize("prompt", ["", "\x07", "x" * 2001, "\udcff"])
def test_what_is_no_prompt_is_bad_input_and_not_on_record(home, admin, prompt: str) -> None:
    size = len(list(iter_entries(home.database)))
    with pytest.raises(BadPromptError):
        ask(home, admin, prompt=prompt)
    assert len(list(iter_entries(home.database))) == size


def test_limits_hold(home, admin) -> None:
    set_guardrails(home.database, policy(limits={"max_images": 4, "max_frames": 8, "max_pixels": 64}), actor=admin)
    ask(home, admin, num_images=4, num_frames=8).require_size_of({"image_size": 8})
    for changes in ({"num_images": 5}, {"num_frames": 9}):
        with pytest.raises(GuardrailError):
            ask(home, admin, **changes)
    with pytest.raises(GuardrailError):
        ask(home, admin).require_size_of({"image_size": 9})
    ask(home, admin, upscale=2).require_size_of({"image_size": 4})
    with pytest.raises(GuardrailError):
        ask(home, admin, upscale=3).require_size_of({"image_size": 4})
    ask(home, admin).require_size_of({"image_size": 8, "latent_shape": [4, 8, 2, 2]})
    with pytest.raises(GuardrailError):  # eight frames of latents, which code more
        ask(home, admin).require_size_of({"image_size": 8, "latent_shape": [4, 8, 2, 2], "num_frames": 32})
    rules = [entry.details["rule"] for entry in entries(home, "generation.refused")]
    assert rules == ["max_images", "max_frames", "max_pixels", "max_pixels", "max_frames"]


def test_only_champions_where_the_policy_says_so(home, admin) -> None:
    with pytest.raises(UnknownSubjectError):
        set_guardrails(home.database, policy(models={"champions_of": ["nowhere"]}), actor=admin)
    set_guardrails(home.database, policy(models={"champions_of": ["production"]}), actor=admin)
    with pytest.raises(GuardrailError, match="not the champion of production"):
        ask(home, admin)
    assert entries(home, "generation.refused")[0].details["rule"] == "models"


def test_pictures_within_an_hour_are_counted_by_who_asked_and_in_all(home, admin) -> None:
    other = create_identity(home.database, home.keys, name="Ada", role=Role.DATA_SCIENTIST, actor=admin).identity_id
    limits = {"max_images_per_hour": {"per_identity": 5, "in_all": 8}}
    set_guardrails(home.database, policy(limits=limits), actor=admin)
    make(home, admin, "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11", count=3, minutes_ago=59)
    make(home, admin, "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b12", count=9, minutes_ago=61)
    make(home, other, "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b13", count=2, minutes_ago=1)
    assert ask(home, admin, num_images=2)
    with pytest.raises(GuardrailError, match="3 pictures within an hour, at most 5 by one identity"):
        ask(home, admin, num_images=3)
    assert ask(home, other, num_images=3)
    set_guardrails(home.database, policy(limits={"max_images_per_hour": {"in_all": 8}}), actor=admin)
    with pytest.raises(GuardrailError, match="5 pictures within an hour, at most 8 by all together"):
        ask(home, other, num_images=4)
