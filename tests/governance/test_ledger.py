"""What an entry of the ledger is, and what is refused."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.canonical import MAX_INTEGER
from governance.errors import BadRecordError, IntegrityError
from governance.ledger import MAX_ENTRY_BYTES, LedgerEntry, commitment, format_time, parse_entry

TIME = "2026-11-22T20:43:57.000001Z"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60)


def entry(**changes):
    values = {
        "index": 3,
        "time": TIME,
        "actor": "system",
        "action": "run.started",
        "subject": "run:1",
        "details": {"n": 1},
        "run_id": None,
    }
    return LedgerEntry(**{**values, **changes})


def test_bytes_are_the_canonical_object_of_the_design():
    assert entry().to_bytes() == (
        b'{"action":"run.started","actor":"system","details":{"n":1},"index":3,"run_id":null,"subject":"run:1",'
        b'"time":"2026-11-22T20:43:57.000001Z"}'
    )


@given(st.integers(0, MAX_INTEGER), TEXT, TEXT, st.none() | TEXT, st.dictionaries(TEXT, st.integers(-5, 5) | TEXT))
def test_parse_is_the_inverse_of_rendering(index, actor, subject, run_id, details):
    made = entry(index=index, actor=actor, subject=subject, run_id=run_id, details=details)
    assert parse_entry(made.to_bytes()) == made
    assert parse_entry(made.to_bytes()).to_bytes() == made.to_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"index": -1},
        {"index": True},
        {"index": 2**53},
        {"time": "2026-11-22T20:43:57Z"},
        {"time": "2026-11-22T20:43:57.000001+00:00"},
        {"time": "2026-13-22T20:43:57.000001Z"},
        {"time": "２026-11-22T20:43:57.000001Z"},
        {"actor": ""},
        {"actor": "x" * 65},
        {"action": "started"},
        {"action": "Run.Started"},
        {"action": "run.started\n"},
        {"subject": ""},
        {"subject": "x" * 513},
        {"subject": "run:\x00"},
        {"subject": "run:\u2028"},
        {"run_id": ""},
        {"details": {"loss": 0.5}},
        {"details": {"n": 2**53}},
        {"details": {"a": "x" * MAX_ENTRY_BYTES}},
        {"details": {"a": "\ud800"}},
    ],
)
def test_entries_that_break_a_rule_are_refused(changes):
    with pytest.raises(BadRecordError):
        entry(**changes).to_bytes()


def test_the_longest_entry_is_65535_bytes():
    overhead = len(entry(details={"a": ""}).to_bytes())
    assert len(entry(details={"a": "x" * (MAX_ENTRY_BYTES - overhead)}).to_bytes()) == 65_535
    with pytest.raises(BadRecordError, match="65,535"):
        entry(details={"a": "x" * (MAX_ENTRY_BYTES - overhead + 1)}).to_bytes()


def test_missing_and_unknown_keys_are_refused():
    record = json.loads(entry().to_bytes())
    for changed in ({**record, "extra": 1}, {k: v for k, v in record.items() if k != "actor"}, {**record, "details": []}):
        with pytest.raises(IntegrityError, match="ledger entry"):
            parse_entry(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"x"', b"\xff", b"{}", b"{" + b" " * 70_000 + b"}"])
def test_bytes_that_are_no_entry_are_refused(data):
    with pytest.raises(IntegrityError):
        parse_entry(data)


def test_times_are_utc_with_microseconds():
    moment = datetime(2026, 11, 22, 22, 43, 57, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(moment) == "2026-11-22T20:43:57.000000Z"
    assert format_time(datetime(999, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "0999-01-02T03:04:05.000006Z"
    with pytest.raises(ValueError, match="zone"):
        format_time(moment.replace(tzinfo=None))


def test_a_commitment_is_the_sha256_of_salt_and_text():
    salt = bytes(range(32))
    assert commitment("Ada", salt) == hashlib.sha256(salt + b"Ada").hexdigest()
    with pytest.raises(ValueError, match="salt"):
        commitment("Ada", b"short")
    with pytest.raises(BadRecordError):
        commitment("\ud800", salt)


def test_every_control_character_is_refused_and_no_other():
    controls = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
    for code in controls:
        with pytest.raises(BadRecordError, match="control character"):
            entry(subject=f"run:{chr(code)}x").to_bytes()
    for code in (0x20, 0x7E, 0xA0, 0xAD, 0x200B, 0x2027, 0x202A, 0xE000, 0xFFFE, 0x10FFFF):
        assert parse_entry(entry(subject=f"run:{chr(code)}x").to_bytes()).subject == f"run:{chr(code)}x"
