"""The keys of a log over time, and which of its checkpoints each of them signs. Pure rules:

1. ``key.rotated`` on ``key:log`` names the next key. The head with that entry is still signed by the key before it: the
   hand-over. ``key.activated``, the entry right after it, holds that note; the head with this one is the first that the new key
   signs.
2. A checkpoint counts only with the signature of the key whose turn it was at its size.
3. A key that was stolen hands nothing over: ``key.rotated`` says ``compromised`` then, and ``key.revoked`` follows it. The new
   key signs the head with both and ``key.activated``.
4. Whoever has a key follows hand-overs to the newest one. With a key that was revoked, or past one that handed nothing over,
   nobody gets further: the new key has to come from outside.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from governance.checkpoint import Checkpoint, key_name, parse_checkpoint, verify_checkpoint
from governance.errors import IntegrityError
from governance.ledger import LedgerEntry
from governance.platform_keys import ROTATED, KeyHistory, PlatformKey

LOG = "log"
ACTIVATED = "key.activated"


@dataclass(frozen=True, kw_only=True)
class LogKey:
    """One key of a log.

    Attributes:
        public_key: The key.
        first_size: The size of the first checkpoint that it signs.
        record: What the ledger says of it; None for a key that is known from elsewhere alone.
        handover: The checkpoint that the key before it signed when it handed over; None for the first, and where it did not.
    """

    public_key: Ed25519PublicKey
    first_size: int = 0
    record: PlatformKey | None = None
    handover: Checkpoint | None = None

    @property
    def name(self) -> str:
        """The origin of its checkpoints."""
        return key_name(self.public_key)


class LogKeys:
    """The keys of one log, oldest first; at least one.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: Sequence[LogKey]) -> None:
        self.keys = tuple(keys)

    @classmethod
    def of(cls, public_key: Ed25519PublicKey) -> "LogKeys":
        """Returns one key, from wherever it is known, for all checkpoints."""
        return cls([LogKey(public_key=public_key)])

    @classmethod
    def from_entries(cls, entries: Sequence[LedgerEntry]) -> "LogKeys":
        """Returns the keys that a ledger's entries about ``key:log`` name.

        Raises:
            IntegrityError: An entry breaks a rule, or there is none.
        """
        history = KeyHistory(LOG, entries)
        _ = history.current
        first_sizes = [0, *(_first_size(entry) for entry in entries if entry.action == ROTATED)]
        notes = {entry.index + 1: entry.details.get("checkpoint") for entry in entries if entry.action == ACTIVATED}
        keys: list[LogKey] = []
        for record, first_size in zip(history.keys, first_sizes, strict=True):
            public_key = load_pem_public_key(record.public_key_pem.encode())
            if not isinstance(public_key, Ed25519PublicKey):
                raise IntegrityError(f"the ledger's log key {record.fingerprint:.16} is no Ed25519 key")
            note = notes.get(first_size)
            handover = _handover(note, keys[-1], first_size) if keys and isinstance(note, str) else None
            keys.append(LogKey(public_key=public_key, first_size=first_size, record=record, handover=handover))
        return cls(keys)

    @property
    def current(self) -> LogKey:
        """The key that signs."""
        return self.keys[-1]

    @property
    def names(self) -> frozenset[str]:
        """The origins of this log's checkpoints."""
        return frozenset(key.name for key in self.keys)

    def find(self, public_key: Ed25519PublicKey) -> LogKey | None:
        """Returns a key, if it is one of these."""
        return next((key for key in self.keys if key.public_key.public_bytes_raw() == public_key.public_bytes_raw()), None)

    def verify(self, note: str) -> Checkpoint:
        """Returns what a signed note says if the key signed it whose turn it was at its size.

        Raises:
            IntegrityError: It did not, or the note is none.
        """
        size = parse_checkpoint(note)[0].size
        signer = next(key for key in reversed(self.keys) if key.first_size <= size)
        return verify_checkpoint(note, signer.public_key)

    def problems(self, known: Ed25519PublicKey) -> Iterator[str]:
        """Yields why somebody who has one of these keys cannot follow it to the newest; nothing where they can."""
        place = next(place for place, key in enumerate(self.keys) if key.name == key_name(known))
        record = self.keys[place].record
        if record is not None and record.revoked is not None:
            yield _lost(self.keys[place], record.revoked)
            return
        for before, key in zip(self.keys[place:], self.keys[place + 1 :], strict=False):
            if key.handover is not None:
                continue
            revoked = before.record.revoked if before.record else None
            if revoked is not None:
                yield _lost(before, revoked)
            else:
                yield f"the log's key {key.name} was named by an entry, but {before.name} has not signed it over"
            return

    def notices(self, known: Ed25519PublicKey) -> Iterator[str]:
        """Yields that a key that somebody has is not the newest, and which one is."""
        if key_name(known) != self.current.name and self.current.record is not None:
            yield (
                f"the log's key was rotated: {key_name(known)} has signed over to {self.current.name} "
                f"(fingerprint {self.current.record.fingerprint}); verify with that one from now on"
            )


def _first_size(rotated: LedgerEntry) -> int:
    """Returns the size of the first head that the key signs which an entry names: the one with the activation, right after it.

    A revocation stands between the two where the key before it was stolen.
    """
    return rotated.index + (3 if rotated.details.get("compromised") is True else 2)


def _handover(note: str, before: LogKey, first_size: int) -> Checkpoint | None:
    """Returns the hand-over that an activation holds, if the key before has signed it over the head right before it."""
    try:
        checkpoint = verify_checkpoint(note, before.public_key)
    except IntegrityError:
        return None
    return checkpoint if checkpoint.size == first_size - 1 else None


def _lost(key: LogKey, revoked: str) -> str:
    return f"the log's key {key.name} was revoked on {revoked}: ask whoever runs the log for the new one, and verify with that"


def handovers(keys: Iterable[LogKey]) -> dict[int, Checkpoint]:
    """Returns the hand-over checkpoints by size."""
    return {key.handover.size: key.handover for key in keys if key.handover is not None}
