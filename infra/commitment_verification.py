"""Whether the texts that the ledger commits to are there, or were erased by an entry that says so.

An entry commits to a text by a detail named ``<what>_commitment``. A text may go: ``commitment.erased`` lists those that did. One
that is gone without such an entry was taken away behind the ledger, and one that is there in spite of it was put back.
"""

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from governance.ledger import SALT_BYTES, LedgerEntry, commitment
from infra.record_comparison import batches
from infra.tables import commitments

ERASED = "commitment.erased"
_SUFFIX = "_commitment"
_COMMITMENT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BATCH = 500


def commitments_of(entry: LedgerEntry) -> list[str]:
    """Returns what an entry commits to."""
    return [value for name, value in entry.details.items() if name.endswith(_SUFFIX) and _is_commitment(value)]


class CommitmentChecker:
    """Compares the texts that are kept with the commitments in the ledger.

    Args:
        connection: A connection in the transaction that is verified.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[str, int] = {}
        self._missing: dict[str, int] = {}
        self._erased: dict[str, int] = {}

    def note(self, entry: LedgerEntry) -> None:
        """Takes in an entry."""
        for found in commitments_of(entry):
            self._waiting.setdefault(found, entry.index)
        if entry.action == ERASED:
            listed = entry.details.get("commitments")
            self._erased.update((one, entry.index) for one in (listed if isinstance(listed, list) else ()) if _is_commitment(one))

    def flush(self) -> None:
        """Looks up what was taken in."""
        waiting, self._waiting = self._waiting, {}
        kept = self._kept(waiting)
        self._missing.update((one, index) for one, index in waiting.items() if one not in kept and one not in self._missing)

    def problems(self) -> Iterator[str]:
        """Yields what does not hold; to be asked at the end."""
        self.flush()
        for one, index in self._missing.items():
            if one not in self._erased:
                yield f"commitment {one:.16} of entry {index}: its text is gone, and no entry says that it was erased"
        for one in sorted(self._kept(self._erased)):
            yield f"commitment {one:.16}: entry {self._erased[one]} says that its text was erased, and it is there"
        columns = commitments.c
        query = select(columns.commitment, columns.salt, columns.value)
        for digest, salt, value in self._connection.execute(query, execution_options={"yield_per": _BATCH}):
            if not _holds(digest, salt, value):
                yield f"commitment {digest!s:.16}: the text kept for it is not the one that was committed to"

    def _kept(self, wanted: dict[str, int]) -> set[str]:
        found: set[str] = set()
        for batch in batches(wanted, _BATCH):
            query = select(commitments.c.commitment).where(commitments.c.commitment.in_(batch))
            found.update(self._connection.execute(query).scalars())
        return found


def _holds(digest: Any, salt: Any, value: Any) -> bool:
    try:
        raw = bytes.fromhex(salt)
        return len(raw) == SALT_BYTES and raw.hex() == salt and commitment(value, raw) == digest
    except (ValueError, TypeError, AttributeError):
        return False


def _is_commitment(value: Any) -> bool:
    return isinstance(value, str) and _COMMITMENT.fullmatch(value) is not None
