"""The ledger's entries: what one is, how its bytes come about, and what is refused.

An entry is the exact UTF-8 bytes of one RFC 8785 canonical JSON object with the keys index, time, actor, action, subject,
details and run_id, at most 65,535 bytes long. Names, prompts and free text appear only as salted SHA-256 commitments.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from governance.canonical import MAX_INTEGER, canonical_json, parse_canonical
from governance.errors import BadRecordError, IntegrityError

MAX_ENTRY_BYTES = 65_535
SALT_BYTES = 32
SYSTEM = "system"
"""The actor of what the platform does by itself."""

_KEYS = frozenset({"index", "time", "actor", "action", "subject", "details", "run_id"})
_MAX_CHARACTERS = {"actor": 64, "action": 64, "subject": 512, "run_id": 64}
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z", re.ASCII)
_ACTION = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One entry of the ledger.

    Attributes:
        index: Its place, from 0.
        time: What the clock said when it was appended, RFC 3339 UTC with microseconds. Entries follow each other by index: where
            a clock was set back, a later entry has an earlier time, and nothing is moved or refused for it.
        actor: The identity that acted, or ``system``.
        action: What happened, such as ``run.started``.
        subject: What it happened to, such as ``run:<run_id>``.
        details: Facts, as canonical JSON takes them: no floats.
        run_id: The run that it belongs to, if any.
    """

    index: int
    time: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]
    run_id: str | None

    def to_bytes(self) -> bytes:
        """Returns the bytes whose hash is the leaf of the tree.

        Raises:
            BadRecordError: The entry breaks a rule of the ledger.
        """
        record = {
            "index": self.index,
            "time": self.time,
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "details": dict(self.details),
            "run_id": self.run_id,
        }
        if problem := _problem(record):
            raise BadRecordError(f"entry {self.action} of {self.subject!r:.80} refused: {problem}")
        data = canonical_json(record)
        if len(data) > MAX_ENTRY_BYTES:
            raise BadRecordError(
                f"entry {self.action} of {self.subject} is {len(data):,} bytes, more than {MAX_ENTRY_BYTES:,}",
                hint="record a digest in place of long values",
            )
        return data


def parse_entry(data: bytes) -> LedgerEntry:
    """Parses an entry's bytes; ``parse_entry(b).to_bytes() == b`` for every entry.

    Raises:
        IntegrityError: The bytes are not canonical JSON or break a rule of the ledger.
    """
    if len(data) > MAX_ENTRY_BYTES:
        raise IntegrityError(f"an entry is {len(data):,} bytes, more than {MAX_ENTRY_BYTES:,}")
    record = parse_canonical(data)
    if problem := _problem(record):
        raise IntegrityError(f"not a ledger entry: {problem}")
    return LedgerEntry(**record)


def format_time(moment: datetime) -> str:
    """Returns an aware time as RFC 3339 UTC with microseconds, ending in ``Z``.

    Raises:
        ValueError: The time has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def commitment(text: str, salt: bytes) -> str:
    """Returns ``SHA256(salt || UTF-8 text)`` in hex: stands in the ledger for a text that can be erased.

    Raises:
        BadRecordError: The text holds a lone surrogate and so has no UTF-8 form.
        ValueError: The salt is not 32 bytes long.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt of {len(salt)} bytes")
    try:
        return hashlib.sha256(salt + text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise BadRecordError("a text has no UTF-8 form: it holds a lone surrogate") from error


def _problem(record: Any) -> str | None:
    """Returns what is wrong with an entry's object, or None."""
    if not isinstance(record, dict):
        return "it is no object"
    if record.keys() != _KEYS:
        odd = sorted(str(key) for key in record.keys() ^ _KEYS)
        return f"missing or unknown keys: {', '.join(odd)}"
    index = record["index"]
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= MAX_INTEGER:
        return f"index {index!r} is no index"
    if not isinstance(record["details"], dict):
        return "details is no object"
    return _time_problem(record["time"]) or _string_problem(record)


def _string_problem(record: dict[str, Any]) -> str | None:
    for key, limit in _MAX_CHARACTERS.items():
        value = record[key]
        if key == "run_id" and value is None:
            continue
        if not isinstance(value, str) or not value:
            return f"{key} is no text"
        if len(value) > limit:
            return f"{key} is longer than {limit} characters"
        if not value.isprintable() and _CONTROL.search(value):  # no control character is printable
            return f"{key} holds a control character"
    if not _ACTION.fullmatch(record["action"]):
        return f"action {record['action']!r} is not of the form noun.verb"
    return None


def _time_problem(time: Any) -> str | None:
    if not isinstance(time, str) or not _TIME.fullmatch(time):
        return f"time {time!r:.60} is not RFC 3339 UTC with microseconds"
    try:
        datetime.fromisoformat(time)
    except ValueError:
        return f"time {time} does not exist"
    return None
