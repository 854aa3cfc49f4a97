"""The ledger in the database: entries, the tree over them, proofs and signed tree heads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, insert, select

from governance import merkle
from governance.checkpoint import sign_checkpoint as sign_note
from governance.checkpoint import verify_checkpoint
from governance.errors import IntegrityError, UnknownSubjectError
from governance.ledger import LedgerEntry, parse_entry
from infra.database import Database, UnitOfWork
from infra.keys import Keys
from infra.ledger_nodes import BlockNodes, StoredNodes
from infra.log_keys import signing_log_key
from infra.tables import ledger_checkpoints, ledger_entries, ledger_head

_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class ProvenEntry:
    """An entry with the proof that it is in a tree.

    Attributes:
        entry: What it says.
        data: Its exact bytes.
        proof: Hashes from its leaf to the root.
    """

    entry: LedgerEntry
    data: bytes
    proof: Sequence[bytes]


def ledger_size(connection: Connection) -> int:
    """Returns the number of entries.

    Raises:
        IntegrityError: The ledger's head is missing.
    """
    size = connection.execute(select(ledger_head.c.size).where(ledger_head.c.id == 1)).scalar_one_or_none()
    if not isinstance(size, int):
        raise IntegrityError("the ledger's head is missing", hint="restore the database from a backup")
    return size


def iter_entries(
    db: Database, start: int = 0, *, action: str | None = None, subject: str | None = None, limit: int | None = None
) -> Iterator[LedgerEntry]:
    """Yields entries in order, from a page of the database at a time; no transaction stays open in between.

    Args:
        db: The database.
        start: Index of the first entry looked at; a negative one counts from the end.
        action: Only entries with this action.
        subject: Only entries with this subject.
        limit: At most so many.

    Raises:
        IntegrityError: An entry is malformed, or its index is not the one it says.
    """
    if start < 0:
        with db.read() as connection:
            start = max(0, ledger_size(connection) + start)
    left = limit
    while left is None or left > 0:
        query = select(ledger_entries.c.index, ledger_entries.c.entry).where(ledger_entries.c.index >= start)
        if action is not None:
            query = query.where(ledger_entries.c.action == action)
        if subject is not None:
            query = query.where(ledger_entries.c.subject == subject)
        size = _PAGE if left is None else min(_PAGE, left)
        with db.read() as connection:
            rows = connection.execute(query.order_by(ledger_entries.c.index).limit(size)).all()
        for index, data in rows:
            yield _parse(index, data)
        if len(rows) < size:
            return
        start = rows[-1][0] + 1
        left = None if left is None else left - len(rows)


def read_entry(connection: Connection, index: int) -> tuple[LedgerEntry, bytes]:
    """Returns one entry and its exact bytes.

    Raises:
        UnknownSubjectError: There is no such entry.
        IntegrityError: It is malformed.
    """
    data = connection.execute(select(ledger_entries.c.entry).where(ledger_entries.c.index == index)).scalar_one_or_none()
    if data is None:
        raise UnknownSubjectError(f"the ledger has no entry {index}")
    return _parse(index, data), bytes(data)


def root_hash(connection: Connection, size: int) -> bytes:
    """Returns the root over the first entries.

    Raises:
        IntegrityError: A node of the tree is missing.
    """
    return merkle.root_hash(size, StoredNodes(connection))


def inclusion_proof(connection: Connection, index: int, size: int) -> list[bytes]:
    """Returns the proof that an entry is in the tree of a size, leaf to root.

    Raises:
        ValueError: It is not in a tree of that size.
        IntegrityError: A node of the tree is missing.
    """
    return merkle.inclusion_proof(index, size, StoredNodes(connection))


def consistency_proof(connection: Connection, first: int, second: int) -> list[bytes]:
    """Returns the proof that the tree of one size begins with that of another.

    Raises:
        ValueError: Not ``0 < first <= second``.
        IntegrityError: A node of the tree is missing.
    """
    return merkle.consistency_proof(first, second, StoredNodes(connection))


def prove_entries(connection: Connection, indices: Sequence[int], size: int) -> list[ProvenEntry]:
    """Returns entries with their proofs, each of which was checked against the tree's root.

    Raises:
        UnknownSubjectError: There is no such entry.
        ValueError: One is not in a tree of that size.
        IntegrityError: An entry is malformed or its proof does not hold.
    """
    nodes = BlockNodes(connection)
    root = merkle.root_hash(size, nodes)
    return [_proven(*read_entry(connection, index), size, nodes, root) for index in indices]


def iter_proven(connection: Connection, start: int, end: int, size: int) -> Iterator[ProvenEntry]:
    """Yields the entries ``[start, end)`` with their proofs, each checked against the tree's root.

    Nodes are read a block at a time, so that a million entries take as many proofs and a few thousand queries.

    Raises:
        UnknownSubjectError: There is no such entry.
        ValueError: One is not in a tree of that size.
        IntegrityError: An entry is malformed or its proof does not hold.
    """
    if not 0 <= start <= end <= size:
        raise ValueError(f"no entries {start} to {end} in a tree of {size}")
    nodes = BlockNodes(connection)
    root = merkle.root_hash(size, nodes)
    columns = ledger_entries.c
    while start < end:
        block = start >> nodes.BLOCK_LEVEL
        stop = min(end, (block + 1) << nodes.BLOCK_LEVEL)
        nodes.load(block)
        query = select(columns.index, columns.entry).where(columns.index >= start, columns.index < stop).order_by(columns.index)
        for expected, (index, data) in zip(range(start, stop), connection.execute(query).all(), strict=False):
            if index != expected:
                raise UnknownSubjectError(f"the ledger has no entry {expected}")
            yield _proven(_parse(index, data), bytes(data), size, nodes, root)
            start += 1
        if start != stop:
            raise UnknownSubjectError(f"the ledger has no entry {start}")


def _proven(entry: LedgerEntry, data: bytes, size: int, nodes: merkle.NodeReader, root: bytes) -> ProvenEntry:
    proof = merkle.inclusion_proof(entry.index, size, nodes)
    if not merkle.verify_inclusion(merkle.leaf_hash(data), entry.index, size, proof, root):
        raise IntegrityError(
            f"entry {entry.index} is not what the ledger's tree says", hint="`groundswell audit verify` says more"
        )
    return ProvenEntry(entry=entry, data=data, proof=proof)


def sign_checkpoint(db: Database, keys: Keys) -> str:
    """Signs the ledger's head and keeps the note; signing the same head again gives the same note.

    The note is kept beside the ledger, not in it: an entry about it would move the head that was signed.

    Raises:
        IntegrityError: The tree does not continue the checkpoint signed last; no second history is signed.
        BadSettingError: The log's key cannot be used.
    """
    with db.unit_of_work() as uow:
        return sign_head(uow, keys)


def sign_head(uow: UnitOfWork, keys: Keys) -> str:
    """Signs the head as `sign_checkpoint` does, with the entries appended in an open unit of work."""
    private_key = signing_log_key(uow.connection, keys)
    return sign_head_with(uow, private_key, signed_before=private_key.public_key())


def sign_head_with(uow: UnitOfWork, private_key: Ed25519PrivateKey, *, signed_before: Ed25519PublicKey) -> str:
    """Signs the head with a key of the log.

    Args:
        uow: An open unit of work.
        private_key: The key.
        signed_before: The key of the checkpoint signed last: another one where the log's key changes.

    Raises:
        IntegrityError: The tree does not continue the checkpoint signed last.
    """
    uow.flush()
    connection = uow.connection
    columns = ledger_checkpoints.c
    last = connection.execute(select(columns.size, columns.note).order_by(columns.size.desc()).limit(1)).first()
    if last is not None:
        checkpoint = verify_checkpoint(last.note, signed_before)
        if checkpoint.size != last.size or last.size > uow.size or root_hash(connection, last.size) != checkpoint.root_hash:
            raise IntegrityError(
                f"the ledger does not continue its checkpoint of {last.size} entries",
                hint="`groundswell audit verify` says where; restore the database from a backup",
            )
    note = sign_note(size=uow.size, root_hash=root_hash(connection, uow.size), private_key=private_key)
    if last is None or last.size != uow.size:
        connection.execute(insert(ledger_checkpoints).values(size=uow.size, note=note, time=uow.time))
    return note


def _parse(index: int, data: bytes) -> LedgerEntry:
    if not isinstance(data, bytes | memoryview):
        raise IntegrityError(f"entry {index} of the ledger is not stored as bytes")
    try:
        entry = parse_entry(bytes(data))
    except IntegrityError as error:
        raise IntegrityError(f"entry {index} of the ledger: {error.diagnosis}") from error
    if entry.index != index:
        raise IntegrityError(f"entry {index} of the ledger says that it is entry {entry.index}")
    return entry
