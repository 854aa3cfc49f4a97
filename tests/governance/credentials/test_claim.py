"""What a manifest says, and that nothing else is taken for it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.credentials.claim import ASSERTION, Claim, PromotedBy, claim_of_manifest, manifest_definition, parse_claim
from governance.errors import BadRecordError

CLAIM = Claim(
    run_id="11111111-2222-3333-4444-555555555555",
    position=2,
    model_name="emoji-small",
    model_version=3,
    root_digest="ab" * 32,
    pixels_sha256="cd" * 32,
    promotions=(PromotedBy(environment="staging", promotion_id="p-1", approvers=("id-1", "id-2")),),
)
texts = st.text(min_size=1, max_size=40)
claims = st.builds(
    Claim,
    run_id=texts,
    position=st.integers(0, 2**53 - 1),
    model_name=texts,
    model_version=st.integers(0, 2**53 - 1),
    root_digest=texts,
    pixels_sha256=texts,
    promotions=st.lists(
        st.builds(PromotedBy, environment=texts, promotion_id=texts, approvers=st.lists(texts, max_size=3).map(tuple)), max_size=2
    ).map(tuple),
    source_sha256=st.none() | texts,
)


@given(claims)
def test_parsing_gives_back_what_was_written(claim):
    assert parse_claim(json.loads(json.dumps(claim.to_assertion()))) == claim


def test_the_manifest_says_that_a_trained_model_made_it_and_where_the_record_is():
    definition = manifest_definition(CLAIM, title="x.png", generator_version="0.1.0", created="2026-01-01T00:00:00Z")
    actions, provenance = definition["assertions"]
    (action,) = actions["data"]["actions"]
    assert (actions["label"], action["action"]) == ("c2pa.actions", "c2pa.created")
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert provenance == {"label": ASSERTION, "data": CLAIM.to_assertion()}
    assert provenance["data"]["ledger_subject"] == f"run:{CLAIM.run_id}"


def test_the_manifest_of_an_edited_file_says_what_was_opened_and_that_a_model_edited_it():
    edited = replace(CLAIM, source_sha256="ef" * 32)
    definition = manifest_definition(edited, title="x.png", generator_version="0.1.0", created="2026-01-01T00:00:00Z")
    actions, provenance = definition["assertions"]
    opened, done = actions["data"]["actions"]
    assert (opened["action"], done["action"]) == ("c2pa.opened", "c2pa.edited")
    assert opened["parameters"] == {"ingredientIds": ["source"]}
    assert done["digitalSourceType"] == edited.digital_source_type != CLAIM.digital_source_type
    assert provenance["data"]["source"] == {"sha256": "ef" * 32}
    assert "source" not in CLAIM.to_assertion()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"source": None},
        {"source": {}},
        {"source": {"sha256": ""}},
        {"source": "sha256"},
        {"ledger_subject": "run:another"},
        {"position": -1},
        {"position": True},
        {"position": "0"},
        {"run_id": ""},
        {"model": None},
        {"model": {"name": "x", "version": 1}},
        {"pixels_sha256": "a" * 600},
        {"promotions": [{"environment": "x"}]},
        {"promotions": None},
    ],
)
def test_a_malformed_assertion_is_refused(change):
    with pytest.raises(BadRecordError):
        parse_claim({**CLAIM.to_assertion(), **change})


@pytest.mark.parametrize("data", [None, [], "text", 7, {}])
def test_what_is_no_assertion_at_all_is_refused(data):
    with pytest.raises(BadRecordError):
        parse_claim(data)


def test_a_manifest_without_the_assertion_claims_nothing_and_one_with_two_is_refused():
    one = {"label": ASSERTION, "data": CLAIM.to_assertion()}
    other = {"label": f"{ASSERTION}__1", "data": replace(CLAIM, position=3).to_assertion()}
    assert claim_of_manifest({}) is None
    assert claim_of_manifest({"assertions": [{"label": "c2pa.actions.v2"}]}) is None
    assert claim_of_manifest({"assertions": [one]}) == CLAIM
    with pytest.raises(BadRecordError, match="2 assertions"):
        claim_of_manifest({"assertions": [one, other]})
