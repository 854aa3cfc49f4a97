"""Checks everything that the database says against the ledger, and the ledger against itself and its signed heads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, func, select

from governance import merkle
from governance.checkpoint import Checkpoint, verify_checkpoint
from governance.errors import IntegrityError
from governance.ledger import LedgerEntry, parse_entry
from governance.merkle import Coordinate
from infra.anchors import Anchor
from infra.database import Database
from infra.record_verification import RecordChecker
from infra.tables import ledger_checkpoints, ledger_entries, ledger_head, ledger_nodes

_BATCH = 1024
_MAX_PROBLEMS = 100

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
    """

    ok: bool
    num_entries: int
    root_hash: str
    num_checkpoints: int
    problems: Sequence[str]
    num_anchors: int = 0


def verify_ledger(
    db: Database, public_key: Ed25519PublicKey, progress: VerifyProgress | None = None, *, anchors: Sequence[Anchor] = ()
) -> VerifyReport:
    """Checks the ledger and what it describes, in one snapshot of the database.

    Every entry's bytes are canonical and say their own index; the stored tree is the one over these bytes; each stored
    checkpoint is signed by the log's key and is the root of the first entries; commitments hold where their text is still
    there; the rows of runs, model versions, artifacts, media and identities say what the ledger says of them; and the
    ledger continues every anchor, which alone shows that entries were cut off or that all was written anew.

    Args:
        db: The database.
        public_key: The log's key, from a place that whoever can write the database cannot write.
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
        self._progress = progress
        self._problems: list[str] = []
        self._peaks: list[tuple[int, bytes]] = []
        self._records = RecordChecker(connection)
        self._num_checkpoints = 0
        self._anchors: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.size, []).append(anchor)

    def run(self) -> VerifyReport:
        self._check_file()
        size = self._check_head()
        checkpoints = self._check_signatures()
        count = self._check_entries(size, checkpoints)
        self._check_num_nodes(count)
        for beyond in sorted(checkpoint_size for checkpoint_size in checkpoints if checkpoint_size > count):
            self._say(f"a checkpoint of {beyond} entries is signed, the ledger has {count}: entries are gone")
        for anchor in (anchor for size in sorted(self._anchors) if size > count for anchor in self._anchors[size]):
            self._say(f"anchor {anchor.source} is of {anchor.size} entries, the ledger has {count}: entries are gone")
        for problem in self._records.problems():
            self._say(problem)
        return VerifyReport(
            ok=not self._problems,
            num_entries=count,
            root_hash=merkle.fold([value for _, value in self._peaks]).hex(),
            num_checkpoints=self._num_checkpoints,
            problems=tuple(self._problems[:_MAX_PROBLEMS]),
            num_anchors=sum(map(len, self._anchors.values())),
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

    def _check_signatures(self) -> dict[int, Checkpoint]:
        found = {}
        columns = ledger_checkpoints.c
        for size, note in self._connection.execute(select(columns.size, columns.note).order_by(columns.size)):
            self._num_checkpoints += 1
            try:
                checkpoint = verify_checkpoint(str(note), self._public_key)
            except IntegrityError as error:
                self._say(f"checkpoint {size}: {error.diagnosis}")
                continue
            if checkpoint.size != size:
                self._say(f"checkpoint {size}: the note is of {checkpoint.size} entries")
                continue
            found[size] = checkpoint
        return found

    def _check_entries(self, size: int, checkpoints: Mapping[int, Checkpoint]) -> int:
        columns = ledger_entries.c
        query = select(columns.index.label("position"), columns.entry, columns.action, columns.subject, columns.run_id)
        query = query.order_by(columns.index).limit(_BATCH)
        done = 0
        self._check_root(0, checkpoints)
        rows = self._connection.execute(query).all()
        while rows:
            first, computed = done, dict[Coordinate, bytes]()
            for row in rows:
                if row.position != done:
                    self._say(f"entry {done} is missing, the next is {row.position}")
                    return done
                data = row.entry if isinstance(row.entry, bytes) else str(row.entry).encode()
                computed.update(merkle.push_leaf(self._peaks, done, merkle.leaf_hash(data)))
                self._check_entry(row)
                done += 1
                self._check_root(done, checkpoints)
            self._check_nodes(first, done, computed)
            for problem in self._records.flush():
                self._say(problem)
            if self._progress is not None:
                self._progress(done, size)
            rows = self._connection.execute(query.where(columns.index >= done)).all()
        if done != size:
            self._say(f"the ledger's head says {size} entries, there are {done}")
        return done

    def _check_root(self, size: int, checkpoints: Mapping[int, Checkpoint]) -> None:
        checkpoint, anchors = checkpoints.get(size), self._anchors.get(size, ())
        if checkpoint is None and not anchors:
            return
        root = merkle.fold([value for _, value in self._peaks])
        if checkpoint is not None and root != checkpoint.root_hash:
            self._say(f"checkpoint {size}: the entries before it are not those that were signed")
        for anchor in anchors:
            if root != anchor.root_hash:
                self._say(f"anchor {anchor.source}: the first {size} entries are not those that it fixed: it is another history")

    def _check_entry(self, row: Any) -> None:
        if not isinstance(row.entry, bytes):
            self._say(f"entry {row.position}: it is not stored as bytes")
            return
        try:
            entry = parse_entry(row.entry)
        except IntegrityError as error:
            self._say(f"entry {row.position}: {error.diagnosis}")
            return
        said = {"position": entry.index, "action": entry.action, "subject": entry.subject, "run_id": entry.run_id}
        for name, value in said.items():
            if getattr(row, name) != value or type(getattr(row, name)) is not type(value):
                self._say(f"entry {row.position}: {name} of the row is {getattr(row, name)!r:.80}, the entry says {value!r:.80}")
        self._note(entry)

    def _note(self, entry: LedgerEntry) -> None:
        for problem in self._records.note(entry):
            self._say(f"entry {entry.index}: {problem}")

    def _check_nodes(self, first: int, end: int, computed: dict[Coordinate, bytes]) -> None:
        columns = ledger_nodes.c
        for level in range(end.bit_length()):
            low, high = first >> level, end >> level
            if low == high:
                continue
            query = select(columns.position, columns.hash).where(
                columns.level == level, columns.position >= low, columns.position < high
            )
            stored = {row.position: row.hash for row in self._connection.execute(query)}
            for position in range(low, high):
                if position not in stored:
                    self._say(f"node {position} of level {level} is missing")
                elif stored[position] != computed.get((level, position)):
                    self._say(
                        f"node {position} of level {level} is not the hash of entries {position << level} to "
                        f"{((position + 1) << level) - 1}"
                    )

    def _check_num_nodes(self, count: int) -> None:
        found = self._connection.execute(select(func.count()).select_from(ledger_nodes)).scalar_one()
        if found != merkle.num_nodes(count):
            self._say(f"the tree over {count} entries has {merkle.num_nodes(count)} nodes, {found} are stored")
