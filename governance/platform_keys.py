"""The platform's own keys over time, as the ledger tells it. Pure rules:

1. ``key.created`` names the first key of a name; each ``key.rotated`` the next, and the one before it, which is retired then.
2. What a retired key has signed stays valid.
3. ``key.revoked`` names a key, current or retired, once. What it has signed counts no longer.
4. While the current key is revoked nothing is signed: a rotation comes first.
5. Only an admin rotates and revokes. The reason is a commitment, so that it can be erased.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from governance.errors import BadRecordError, IntegrityError, RefusedError, UnknownSubjectError
from governance.ledger import LedgerEntry

CREATED, ROTATED, REVOKED = "key.created", "key.rotated", "key.revoked"
SHOWN_DIGITS = 16
_MIN_DIGITS = 8
_MAX_REASON = 2000


class KeyState(StrEnum):
    """What a key is good for."""

    CURRENT = "current"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, kw_only=True)
class PlatformKey:
    """One key of the platform.

    Attributes:
        name: What it is for, such as ``package-signing``.
        algorithm: Such as ``ecdsa-p256``.
        public_key_pem: Its public half.
        fingerprint: SHA-256 of its SubjectPublicKeyInfo, in hex.
        since: When it became current.
        retired: When another took its place, if one did.
        revoked: When it was revoked, if it was.
    """

    name: str
    algorithm: str
    public_key_pem: str
    fingerprint: str
    since: str
    retired: str | None = None
    revoked: str | None = None

    @property
    def state(self) -> KeyState:
        """What it is good for."""
        if self.revoked is not None:
            return KeyState.REVOKED
        return KeyState.CURRENT if self.retired is None else KeyState.RETIRED

    @property
    def pem_digest(self) -> str:
        """SHA-256 of its PEM, by which signatures of packages and statements name it."""
        return hashlib.sha256(self.public_key_pem.encode()).hexdigest()


class KeyHistory:
    """The keys of one name, oldest first.

    Args:
        name: The name.
        entries: The ledger's entries about ``key:<name>`` so far, in order.

    Raises:
        IntegrityError: An entry breaks a rule.
    """

    def __init__(self, name: str, entries: Iterable[LedgerEntry] = ()) -> None:
        self.name = name
        self.keys: list[PlatformKey] = []
        for entry in entries:
            self.note(entry)

    @property
    def current(self) -> PlatformKey:
        """The key that signs.

        Raises:
            IntegrityError: The ledger names none.
        """
        if not self.keys:
            raise IntegrityError(f"the ledger names no key {self.name}", hint="restore the database from a backup")
        return self.keys[-1]

    def note(self, entry: LedgerEntry) -> None:
        """Takes in an entry about the name; of another it takes no notice.

        Raises:
            IntegrityError: It breaks a rule; it is passed over then.
        """
        if entry.subject != f"key:{self.name}":
            return
        if entry.action in {CREATED, ROTATED}:
            self._add(entry)
        elif entry.action == REVOKED:
            self._revoke(entry)

    def _add(self, entry: LedgerEntry) -> None:
        details = entry.details
        pem = details.get("public_key_pem")
        fingerprint = fingerprint_of(pem if isinstance(pem, str) else "")
        if details.get("public_key_sha256", fingerprint) != fingerprint:
            raise IntegrityError(f"{entry.subject}: the fingerprint is not that of the key")
        if any(key.fingerprint == fingerprint for key in self.keys):
            raise IntegrityError(f"{entry.subject}: the key was named before")
        if (entry.action == CREATED) != (not self.keys):
            raise IntegrityError(f"{entry.subject}: {entry.action} {'after' if self.keys else 'before'} the first key")
        if self.keys:
            if details.get("previous_sha256") != self.current.fingerprint:
                raise IntegrityError(f"{entry.subject}: it does not follow the key that was current")
            self.keys[-1] = replace(self.current, retired=entry.time)
        self.keys.append(
            PlatformKey(
                name=self.name,
                algorithm=str(details.get("algorithm")),
                public_key_pem=str(pem),
                fingerprint=fingerprint,
                since=entry.time,
            )
        )

    def _revoke(self, entry: LedgerEntry) -> None:
        for place, key in enumerate(self.keys):
            if key.fingerprint == entry.details.get("public_key_sha256") and key.revoked is None:
                self.keys[place] = replace(key, revoked=entry.time)
                return
        raise IntegrityError(f"{entry.subject}: it revokes a key that is not known, or revoked already")


def fingerprint_of(public_key_pem: str) -> str:
    """Returns the SHA-256 of a key's SubjectPublicKeyInfo, in hex.

    Raises:
        IntegrityError: It is no public key in PEM.
    """
    try:
        key = load_pem_public_key(public_key_pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IntegrityError("the ledger names a key that is none") from error
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def rotation_details(new_public_key_pem: str, previous: PlatformKey) -> Mapping[str, Any]:
    """Returns the details of a ``key.rotated`` entry."""
    return {
        "algorithm": previous.algorithm,
        "previous_sha256": previous.fingerprint,
        "public_key_pem": new_public_key_pem,
        "public_key_sha256": fingerprint_of(new_public_key_pem),
    }


def key_to_revoke(histories: Iterable[KeyHistory], digits: str) -> PlatformKey:
    """Returns the key that a fingerprint, or its beginning, names, if it may be revoked.

    Raises:
        UnknownSubjectError: There is none.
        BadRecordError: The digits are too few, or more than one key's fingerprint begins with them.
        RefusedError: It is revoked already.
    """
    if len(digits) < _MIN_DIGITS:
        raise BadRecordError(f"{digits!r:.80} is too short for a fingerprint", hint=f"write {_MIN_DIGITS} digits or more")
    found = [key for history in histories for key in history.keys if key.fingerprint.startswith(digits.lower())]
    if not found:
        raise UnknownSubjectError(f"no key has the fingerprint {digits:.80}", hint="see `groundswell key list`")
    if len(found) > 1:
        raise BadRecordError(f"more than one key begins with {digits:.80}", hint="write all 64 digits")
    if found[0].revoked is not None:
        raise RefusedError(f"key {found[0].fingerprint[:SHOWN_DIGITS]} was revoked on {found[0].revoked}")
    return found[0]


def require_signing(history: KeyHistory) -> None:
    """Checks that the current key may sign.

    Raises:
        RefusedError: It is revoked.
    """
    key = history.current
    if key.revoked is not None:
        raise RefusedError(
            f"the {key.name} key {key.fingerprint[:SHOWN_DIGITS]} was revoked on {key.revoked}, so nothing is signed with it",
            hint=f"`groundswell key rotate {key.name}` makes another; it takes an admin",
        )


def require_unrevoked(history: KeyHistory, fingerprint: str) -> None:
    """Checks that a key which has just signed something still counts when that is recorded.

    Raises:
        RefusedError: It was revoked meanwhile.
    """
    revoked = next((key.revoked for key in history.keys if key.fingerprint == fingerprint), None)
    if revoked is not None:
        raise RefusedError(
            f"the {history.name} key {fingerprint[:SHOWN_DIGITS]} was revoked on {revoked}, before what it signed was recorded",
            hint="run the command again: it signs with the key that is current then",
        )


def checked_reason(text: str) -> str:
    """Returns the reason of a revocation.

    Raises:
        BadRecordError: It is empty, too long or more than a line.
    """
    text = text.strip()
    if not text or len(text) > _MAX_REASON or not text.isprintable():
        raise BadRecordError(
            "a revocation needs a reason in one line", hint=f'--reason "a laptop was lost", at most {_MAX_REASON:,} characters'
        )
    return text
