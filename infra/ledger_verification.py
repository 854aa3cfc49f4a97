"""Checks everything that the database says against the ledger, and the ledger against itself and its signed heads."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, Row, func, select

from governance.checkpoint import Checkpoint
from governance.errors import IntegrityError
from governance.ledger import parse_entry
from governance.log_keys import handovers
from governance.merkle import GrowingTree, leaf_hash, num_nodes
from infra.anchors import Anchor
from infra.database import Database
from infra.log_keys import log_keys
from infra.record_verification import RecordChecker
from infra.tables import ledger_checkpoints, ledger_entries, ledger_head, ledger_nodes

_BATCH = 2048
"""How many entries are in memory at a time; each may have 64 KiB."""

_MAX_PROBLEMS = 100
_Rows = Sequence[Row[Any, Any, Any, Any, Any]]

VerifyProgress = Callable[[int, int], None]
"""Called with the number of entries checked and the number in all."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        ok: Whether everything holds.
        num_entries: Number of entries.
        root_hash: Root of the tree over them as recomputed from their bytes, in hex.
        num_checkpoints: Number of signed tree heads that were checked.
        num_anchors: Number of signed tree heads kept elsewhere that it was compared with.
        problems: What does not hold, a line each, the first thing first; at most a hundred.
        notices: What should be known though it holds, such as keys that were revoked; a line each.
    """

    ok: bool
    num_entries: int
    root_hash: str
    num_checkpoints: int
    problems: Sequence[str]
    num_anchors: int = 0
    notices: Sequence[str] = ()


def verify_ledger(
    db: Database, public_key: Ed25519PublicKey, progress: VerifyProgress | None = None, *, anchors: Sequence[Anchor] = ()
) -> VerifyReport:
    """Checks the ledger and what it describes, in one snapshot of the database.

    Every entry's bytes are canonical and say their own index; the stored tree is the one over these bytes; each stored
    checkpoint is signed by the key whose turn it was and is the root of the first entries; commitments hold where their text is
    still there; the rows of runs, model versions, artifacts, media and identities say what the ledger says of them; and the
    ledger continues every anchor, which alone shows that entries were cut off or that all was written anew.

    Args:
        db: The database.
        public_key: The log's key, or one before it, from a place that whoever can write the database cannot write.
        progress: Told how far it has come.
        anchors: Signed tree heads that were kept elsewhere, verified.

    Raises:
        IntegrityError: The database file is damaged so that it cannot be read.
        BackendUnavailableError: The database is locked or gone.
    """
    with db.read() as connection:
        return verify_connection(connection, public_key, progress, anchors=anchors)


def verify_connection(
    connection: Connection,
    public_key: Ed25519PublicKey,
    progress: VerifyProgress | None = None,
    *,
    anchors: Sequence[Anchor] = (),
) -> VerifyReport:
    """Checks what `verify_ledger` checks, as a transaction sees it that is open already.

    Args:
        connection: A connection in a transaction that nobody else changes the ledger under.
        public_key: The log's key.
        progress: Told how far it has come.
        anchors: Signed tree heads that were kept elsewhere, verified.
    """
    return _Verification(connection, public_key, progress, anchors).run()


class _Verification:
    def __init__(
        self, connection: Connection, public_key: Ed25519PublicKey, progress: VerifyProgress | None, anchors: Sequence[Anchor]
    ) -> None:
        self._connection = connection
        self._public_key = public_key
        self._log_keys = log_keys(connection, public_key)
        self._progress = progress
        self._problems: list[str] = []
        self._tree = GrowingTree()
        self._records = RecordChecker(connection)
        self._num_checkpoints = 0
        self._checkpoints: dict[int, Checkpoint] = {}
        self._anchors: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.size, []).append(anchor)

    def run(self) -> VerifyReport:
        self._check_file()
        size = self._check_head()
        for problem in self._log_keys.problems(self._public_key):
            self._say(problem)
        self._check_signatures()
        self._check_entries(size)
        count = self._tree.size
        self._check_num_nodes(count)
        for beyond in sorted(checkpoint_size for checkpoint_size in self._checkpoints if checkpoint_size > count):
            self._say(f"a checkpoint of {beyond} entries is signed, the ledger has {count}: entries are gone")
        for anchor in (anchor for size in sorted(self._anchors) if size > count for anchor in self._anchors[size]):
            self._say(f"anchor {anchor.source} is of {anchor.size} entries, the ledger has {count}: entries are gone")
        for problem in self._records.problems():
            self._say(problem)
        return VerifyReport(
            ok=not self._problems,
            num_entries=count,
            root_hash=self._tree.root().hex(),
            num_checkpoints=self._num_checkpoints,
            problems=tuple(self._problems[:_MAX_PROBLEMS]),
            num_anchors=sum(map(len, self._anchors.values())),
            notices=(*self._log_keys.notices(self._public_key), *self._records.notices()),
        )

    def _say(self, problem: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(problem)

    def _check_file(self) -> None:
        """On SQLite, checks the pages of the ledger's tables, and that their indices agree with them."""
        if self._connection.dialect.name != "sqlite":
            return
        for table in (ledger_head, ledger_entries, ledger_nodes, ledger_checkpoints):
            answer = self._connection.exec_driver_sql(f"PRAGMA integrity_check('{table.name}')").scalar()
            if answer != "ok":
                self._say(f"table {table.name} is damaged: {' '.join(str(answer).split())[:200]}")

    def _check_head(self) -> int:
        rows = self._connection.execute(select(ledger_head.c.id, ledger_head.c.size)).all()
        if len(rows) != 1 or rows[0].id != 1 or not isinstance(rows[0].size, int):
            self._say("the ledger's head is not one row with a size")
            return 0
        return int(rows[0].size)

    def _check_signatures(self) -> None:
        columns = ledger_checkpoints.c
        for size, note in self._connection.execute(select(columns.size, columns.note).order_by(columns.size)):
            self._num_checkpoints += 1
            try:
                checkpoint = self._log_keys.verify(str(note))
            except IntegrityError as error:
                self._say(f"checkpoint {size}: {error.diagnosis}")
                continue
            if checkpoint.size != size:
                self._say(f"checkpoint {size}: the note is of {checkpoint.size} entries")
                continue
            self._checkpoints[size] = checkpoint
        for size, checkpoint in handovers(self._log_keys.keys).items():
            if self._checkpoints.setdefault(size, checkpoint) != checkpoint:
                self._say(f"checkpoint {size}: it is not the one with which the log's key handed over")

    def _check_entries(self, size: int) -> None:
        """Checks the entries in order, up to the first that is missing, and the tree over them."""
        columns = ledger_entries.c
        query = select(columns.index, columns.action, columns.subject, columns.run_id, columns.entry)
        query = query.order_by(columns.index).limit(_BATCH)
        fixed = sorted({*self._checkpoints, *self._anchors})
        self._check_root()
        rows = self._connection.execute(query).all()
        while rows:
            unbroken = _unbroken(rows, self._tree.size)
            if unbroken:
                self._check_batch(unbroken, fixed)
            if len(unbroken) < len(rows):
                self._say(f"entry {self._tree.size} is missing, the next is {rows[len(unbroken)][0]}")
                return
            if self._progress is not None:
                self._progress(self._tree.size, size)
            rows = self._connection.execute(query.where(columns.index >= self._tree.size)).all()
        if self._tree.size != size:
            self._say(f"the ledger's head says {size} entries, there are {self._tree.size}")

    def _check_batch(self, rows: _Rows, fixed: Sequence[int]) -> None:
        """Checks the next entries and the nodes that they complete, and the root wherever one was fixed among them."""
        first, end = self._tree.size, self._tree.size + len(rows)
        levels: list[list[bytes]] = []
        stops = fixed[bisect_right(fixed, first) : bisect_left(fixed, end)]
        for start, stop in pairwise([first, *stops, end]):
            part = rows[start - first : stop - first]
            for row in part:
                self._check_entry(*row)
            for level, hashes in enumerate(self._tree.append([leaf_hash(_stored_bytes(row[-1])) for row in part])):
                if level == len(levels):
                    levels.append([])
                levels[level] += hashes
            self._check_root()
        self._check_nodes(first, levels)
        for problem in self._records.flush():
            self._say(problem)

    def _check_root(self) -> None:
        size = self._tree.size
        checkpoint, anchors = self._checkpoints.get(size), self._anchors.get(size, ())
        if checkpoint is None and not anchors:
            return
        root = self._tree.root()
        if checkpoint is not None and root != checkpoint.root_hash:
            self._say(f"checkpoint {size}: the entries before it are not those that were signed")
        for anchor in anchors:
            if root != anchor.root_hash:
                self._say(f"anchor {anchor.source}: the first {size} entries are not those that it fixed: it is another history")

    def _check_entry(self, position: Any, action: Any, subject: Any, run_id: Any, data: Any) -> None:
        if not isinstance(data, bytes):
            self._say(f"entry {position}: it is not stored as bytes")
            return
        try:
            entry = parse_entry(data)
        except IntegrityError as error:
            self._say(f"entry {position}: {error.diagnosis}")
            return
        stored, said = (position, action, subject, run_id), (entry.index, entry.action, entry.subject, entry.run_id)
        if stored != said or type(position) is not int:
            for name, value, found in zip(("position", "action", "subject", "run_id"), said, stored, strict=True):
                if found != value or type(found) is not type(value):
                    self._say(f"entry {position}: {name} of the row is {found!r:.80}, the entry says {value!r:.80}")
        for problem in self._records.note(entry):
            self._say(f"entry {position}: {problem}")

    def _check_nodes(self, first: int, levels: Sequence[Sequence[bytes]]) -> None:
        """Compares the stored nodes with those that the entries from `first` on completed, level by level."""
        columns = ledger_nodes.c
        for level, hashes in enumerate(levels):
            low = first >> level
            query = select(columns.position, columns.hash).where(
                columns.level == level, columns.position >= low, columns.position < low + len(hashes)
            )
            stored = dict(self._connection.execute(query).all())
            computed = dict(enumerate(hashes, start=low))
            if stored == computed:
                continue
            for position, value in computed.items():
                if position not in stored:
                    self._say(f"node {position} of level {level} is missing")
                elif stored[position] != value:
                    self._say(
                        f"node {position} of level {level} is not the hash of entries {position << level} to "
                        f"{((position + 1) << level) - 1}"
                    )

    def _check_num_nodes(self, count: int) -> None:
        found = self._connection.execute(select(func.count()).select_from(ledger_nodes)).scalar_one()
        if found != num_nodes(count):
            self._say(f"the tree over {count} entries has {num_nodes(count)} nodes, {found} are stored")


def _unbroken(rows: _Rows, first: int) -> _Rows:
    """Returns the rows before the first whose index is not the next."""
    for number, row in enumerate(rows):
        if row[0] != first + number:
            return rows[:number]
    return rows


def _stored_bytes(data: Any) -> bytes:
    return data if isinstance(data, bytes) else str(data).encode()
