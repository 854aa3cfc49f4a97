"""What the ledger may say of the platform's keys."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from governance.errors import BadRecordError, IntegrityError, RefusedError, UnknownSubjectError
from governance.ledger import LedgerEntry
from governance.platform_keys import (
    CREATED,
    REVOKED,
    ROTATED,
    KeyHistory,
    KeyState,
    checked_reason,
    fingerprint_of,
    key_to_revoke,
    require_signing,
)

NAME = "package-signing"


def pem() -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(encoding, form).decode()


FIRST, SECOND, THIRD = pem(), pem(), pem()


def entry(action: str, *, subject: str = f"key:{NAME}", at: int = 0, **details: str) -> LedgerEntry:
    time = f"2026-01-{at + 1:02}T00:00:00.000000Z"
    return LedgerEntry(index=at, time=time, actor="system", action=action, subject=subject, details=details, run_id=None)


def created(key: str = FIRST) -> LedgerEntry:
    return entry(CREATED, algorithm="ecdsa-p256", public_key_pem=key, public_key_sha256=fingerprint_of(key))


def rotated(key: str, previous: str, *, at: int) -> LedgerEntry:
    digests = {"public_key_sha256": fingerprint_of(key), "previous_sha256": fingerprint_of(previous)}
    return entry(ROTATED, algorithm="ecdsa-p256", public_key_pem=key, at=at, **digests)


def revoked(key: str, *, at: int) -> LedgerEntry:
    return entry(REVOKED, public_key_sha256=fingerprint_of(key), at=at)


def test_a_key_is_current_then_retired_and_may_be_revoked_in_either_state():
    history = KeyHistory(NAME, [created(), rotated(SECOND, FIRST, at=1), revoked(FIRST, at=2), revoked(SECOND, at=3)])
    assert [key.state for key in history.keys] == [KeyState.REVOKED, KeyState.REVOKED]
    assert [key.since[:10] for key in history.keys] == ["2026-01-01", "2026-01-02"]
    with pytest.raises(RefusedError, match="was revoked on 2026-01-04") as caught:
        require_signing(history)
    assert "key rotate package-signing" in caught.value.hint
    history.note(rotated(THIRD, SECOND, at=4))
    require_signing(history)
    assert [key.state for key in history.keys][-1] is KeyState.CURRENT


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([rotated(SECOND, FIRST, at=0)], "before the first key"),
        ([created(), created(SECOND)], "after the first key"),
        ([created(), rotated(THIRD, SECOND, at=1)], "does not follow"),
        ([created(), rotated(SECOND, FIRST, at=1), rotated(THIRD, FIRST, at=2)], "does not follow"),
        ([created(), rotated(SECOND, FIRST, at=1), rotated(FIRST, SECOND, at=2)], "named before"),
        ([created(), revoked(SECOND, at=1)], "not known"),
        ([created(), revoked(FIRST, at=1), revoked(FIRST, at=2)], "revoked already"),
        ([entry(CREATED, public_key_pem=FIRST, public_key_sha256=fingerprint_of(SECOND))], "not that of the key"),
        ([entry(CREATED, public_key_pem="nonsense")], "a key that is none"),
        ([entry(CREATED)], "a key that is none"),
    ],
)
def test_what_breaks_the_rules_is_named(entries, match):
    with pytest.raises(IntegrityError, match=match):
        KeyHistory(NAME, entries)


def test_entries_about_other_keys_are_none_of_its_business():
    assert KeyHistory(NAME, [entry(CREATED, subject="key:log", public_key_pem=FIRST)]).keys == []
    with pytest.raises(IntegrityError, match="names no key"):
        _ = KeyHistory(NAME).current


def test_a_key_is_found_by_the_first_digits_of_its_fingerprint():
    history = KeyHistory(NAME, [created()])
    assert key_to_revoke([history], fingerprint_of(FIRST)[:8].upper()).public_key_pem == FIRST
    with pytest.raises(BadRecordError, match="too short"):
        key_to_revoke([history], fingerprint_of(FIRST)[:7])
    with pytest.raises(UnknownSubjectError, match="no key has the fingerprint"):
        key_to_revoke([history], "0" * 64)
    history.note(revoked(FIRST, at=1))
    with pytest.raises(RefusedError, match="was revoked on"):
        key_to_revoke([history], fingerprint_of(FIRST))


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "x" * 2001])
def test_a_reason_is_one_line(text):
    with pytest.raises(BadRecordError, match="needs a reason"):
        checked_reason(text)
