"""Approvals: what is signed is exactly what is approved, and nothing else counts."""

import json

import pytest

from governance.errors import IntegrityError
from governance.promotion.approval import approval_of, check_bound, parse_approval
from governance.promotion.state import RuleError
from tests.governance.promotion.test_state import request

SIGNED = "2026-07-02T00:00:00.000000Z"


def approval(**changes):
    return approval_of(request(**changes), approver="id-7", role="ops", signed=SIGNED)


def test_the_statement_says_all_that_it_is_bound_to_and_reads_back():
    made = approval()
    statement = made.statement()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": "m/2", "digest": {"sha256": "ab" * 32}}]
    assert parse_approval(json.dumps(statement).encode()) == made
    check_bound(made, request())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"promotion_id": "p-2"}, "request"),
        ({"version": 3}, "model version"),
        ({"root_digest": "00" * 32}, "package"),
        ({"environment": "staging"}, "environment"),
        ({"policy_digest": "00" * 32}, "policy"),
        ({"evidence_root": "00" * 32}, "evidence"),
        ({"expected_version": 4}, "champion"),
        ({"expected_digest": "00" * 32}, "champion"),
        ({"expected_version": None, "expected_digest": None}, "champion"),
        ({"expires": "2027-01-01T00:00:00.000000Z"}, "end"),
    ],
)
def test_any_change_voids_it(changes, word):
    with pytest.raises(RuleError, match=f"is of {word} ") as caught:
        check_bound(approval(), request(**changes))
    assert caught.value.rule == "binding"


def _without(key):
    statement = approval().statement()
    del statement["predicate"][key]
    return statement


@pytest.mark.parametrize(
    "statement",
    [
        [],
        "x",
        {},
        {**approval().statement(), "predicateType": "https://slsa.dev/provenance/v1"},
        {**approval().statement(), "extra": 1},
        {**approval().statement(), "subject": []},
        {**approval().statement(), "subject": approval().statement()["subject"] * 2},
        _without("evidenceRoot"),
        _without("expectedChampion"),
        {**approval().statement(), "predicate": approval().statement()["predicate"] | {"decision": "rejected"}},
    ],
)
def test_what_says_less_more_or_other_things_is_no_approval(statement):
    with pytest.raises(IntegrityError, match="no approval"):
        parse_approval(json.dumps(statement).encode())


def test_deep_nesting_is_no_approval():
    with pytest.raises(IntegrityError):
        parse_approval(b"[" * 100_000)
