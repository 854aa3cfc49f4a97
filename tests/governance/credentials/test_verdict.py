"""What follows from checks, rule by rule."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.credentials.fingerprint import distance, frame_indices, join_hashes, parse_fingerprint
from governance.credentials.reading import ManifestState, judge
from governance.credentials.verdict import Basis, Candidate, Check, Origin, Outcome, conclude

ORIGIN = Origin(run_id="r", position=0, model_name="m", model_version=1, root_digest="ab" * 32)


def check(name, outcome, *origins):
    return Check(name=name, outcome=outcome, says="", origins=origins)


def test_one_check_that_holds_attributes_the_file():
    verdict = conclude(
        [check("manifest", Outcome.ABSENT), check("digest", Outcome.ABSENT), check("pixels", Outcome.HELD, ORIGIN)]
    )
    assert (verdict.origin, verdict.proven_by, verdict.ok) == (ORIGIN, ("pixels",), True)


def test_what_does_not_hold_spoils_the_verdict_and_the_attribution_stays():
    verdict = conclude([check("manifest", Outcome.FAILED), check("digest", Outcome.HELD, ORIGIN)])
    assert (verdict.origin, verdict.ok, [one.name for one in verdict.failed]) == (ORIGIN, False, ["manifest"])


def test_two_models_attribute_a_file_to_neither():
    other = replace(ORIGIN, model_version=2)
    assert conclude([check("digest", Outcome.HELD, ORIGIN), check("pixels", Outcome.HELD, other)]).origin is None


def test_looks_never_attribute():
    alike = Check(
        name="fingerprint",
        outcome=Outcome.UNPROVEN,
        says="",
        candidates=(Candidate(origin=ORIGIN, distance=0),),
        origins=(ORIGIN,),
    )
    verdict = conclude([alike])
    assert (verdict.origin, verdict.ok, len(verdict.candidates)) == (None, False, 1)
    assert conclude([alike, check("digest", Outcome.HELD, ORIGIN)]).candidates == ()


def test_a_watermark_alone_names_the_origins_and_proves_nothing():
    again = replace(ORIGIN, run_id="s")
    mark = replace(check("watermark", Outcome.HELD, ORIGIN, again), is_evidence=True)
    verdict = conclude([check("pixels", Outcome.ABSENT), mark])
    assert (verdict.origins, verdict.basis, verdict.proven_by, verdict.ok) == ((ORIGIN, again), Basis.WATERMARK, (), False)


def test_a_watermark_adds_nothing_to_a_proof_and_takes_nothing_from_it():
    mark = replace(check("watermark", Outcome.HELD, replace(ORIGIN, model_version=2)), is_evidence=True)
    verdict = conclude([mark, check("digest", Outcome.HELD, ORIGIN)])
    assert (verdict.origin, verdict.basis, verdict.proven_by, verdict.ok) == (ORIGIN, Basis.PROOF, ("digest",), True)


def test_nothing_proves_nothing():
    assert (conclude([]).ok, conclude([]).origin, conclude([]).basis) == (False, None, None)


@given(st.integers(1, 500))
def test_frames_are_evenly_spaced_with_the_first_and_the_last(num_frames):
    chosen = frame_indices(num_frames)
    assert len(chosen) == len(set(chosen)) == min(8, num_frames)
    assert (chosen[0], chosen[-1]) == (0, num_frames - 1)
    assert chosen == sorted(chosen)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8))
def test_a_fingerprint_is_read_back_and_is_no_bit_from_itself(hashes):
    parsed = parse_fingerprint(join_hashes([f"{one:016x}" for one in hashes]))
    assert parsed == tuple(hashes)
    assert distance(parsed, parsed) == 0
    assert distance(parsed, [parsed[0] ^ 0b1011, *parsed[1:]]) == 3


def test_what_is_no_fingerprint_is_near_nothing():
    assert parse_fingerprint("no") == ()
    assert distance((), ()) is None
    assert distance((1,), (1, 2)) is None
    with pytest.raises(ValueError, match="no fingerprint"):
        join_hashes([])


@pytest.mark.parametrize(
    ("store", "state", "reason"),
    [
        ({}, ManifestState.BROKEN, "C2PA says None"),
        ({"validation_state": "Trusted"}, ManifestState.TRUSTED, ""),
        (
            {"validation_state": "Valid", "validation_status": [{"code": "signingCredential.untrusted"}]},
            ManifestState.UNTRUSTED,
            "not certified",
        ),
        (
            {"validation_state": "Valid", "validation_status": [{"code": "something.else"}]},
            ManifestState.BROKEN,
            "something.else",
        ),
        (
            {"validation_state": "Invalid", "validation_status": [{"code": "assertion.dataHash.mismatch"}]},
            ManifestState.BROKEN,
            "not the one that was signed",
        ),
        (
            {"validation_state": "Invalid", "validation_status": [{"code": "a.b"}, {"code": "claimSignature.mismatch"}]},
            ManifestState.BROKEN,
            "signature does not hold",
        ),
        (
            {
                "validation_state": "Trusted",
                "active_manifest": "a",
                "manifests": {"a": {"assertions": [{"label": "org.groundswell.provenance", "data": {}}]}},
            },
            ManifestState.BROKEN,
            "malformed",
        ),
    ],
)
def test_a_manifest_is_worth_what_its_reader_says(store, state, reason):
    reading = judge(store)
    assert reading.state is state
    assert reason in reading.reason
