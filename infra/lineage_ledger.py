"""The ledger as a lineage report shows it: entries about some subjects, and whether the whole verifies."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Connection, select

from governance.errors import GovernanceError, IntegrityError
from governance.ledger import parse_entry
from governance.lineage_report.model import LedgerLine, LedgerStatus
from governance.merkle import GrowingTree, leaf_hash
from infra.database import Database
from infra.errors import InfraError
from infra.keys import LOG_KEY, Keys
from infra.ledger import ledger_size, root_hash
from infra.ledger_verification import verify_ledger
from infra.tables import ledger_entries

_BATCH = 400


def read_ledger(connection: Connection, subjects: Collection[str]) -> LedgerStatus:
    """Reads the entries about some subjects, and checks that every entry hashes to the stored root.

    Args:
        connection: An open connection.
        subjects: Subject strings.
    """
    try:
        size = ledger_size(connection)
        stored = root_hash(connection, size)
        recomputed, last_time = _recompute(connection, size)
        lines = _lines(connection, subjects)
    except IntegrityError as error:
        return _failed(error.diagnosis)
    if recomputed != stored:
        return _failed("the entries do not hash to the stored root", size=size, root=recomputed.hex(), entries=lines)
    message = (
        f"The ledger's {size:,} entries hash to its root." if size else "The ledger is empty: nothing vouches for this report."
    )
    return LedgerStatus(
        state="verified" if size else "empty",
        message=message,
        size=size,
        root_hash=stored.hex(),
        last_time=last_time,
        entries=lines,
    )


def verified(db: Database, status: LedgerStatus, *, home: Path) -> LedgerStatus:
    """Verifies the whole ledger, with its signed checkpoints where the log's public key is at hand.

    Args:
        db: The database.
        status: What `read_ledger` found.
        home: The home with the key.
    """
    if status.state != "verified":
        return status
    keys = Keys(home / "keys")
    if not keys.public_path(LOG_KEY).is_file():
        return dataclasses.replace(
            status, message=status.message + " Its signatures were not checked: the log's public key is not here."
        )
    try:
        report = verify_ledger(db, keys.log_public_key())
    except (GovernanceError, InfraError) as error:
        return dataclasses.replace(status, state="failed", message=f"The ledger does not verify: {error.diagnosis}.")
    if not report.ok:
        return dataclasses.replace(status, state="failed", message=f"The ledger does not verify: {report.problems[0]}.")
    signed = (
        f" and {report.num_checkpoints} signed checkpoint{'s' * (report.num_checkpoints != 1)}" if report.num_checkpoints else ""
    )
    return dataclasses.replace(status, message=f"The ledger verified: all {report.num_entries:,} entries{signed} hold.")


def _recompute(connection: Connection, size: int) -> tuple[bytes, str | None]:
    """Returns the root over all entries' bytes, and the time of the last."""
    tree, data = GrowingTree(), b""
    columns = ledger_entries.c
    for index, entry in connection.execute(select(columns.index, columns.entry).order_by(columns.index)):
        if index != tree.size or not isinstance(entry, bytes | memoryview):
            raise IntegrityError(f"entry {tree.size} of the ledger is missing or damaged")
        data = bytes(entry)
        tree.append([leaf_hash(data)])
    if tree.size != size:
        raise IntegrityError(f"the ledger's head says {size:,} entries, there are {tree.size:,}")
    return tree.root(), parse_entry(data).time if size else None


def _lines(connection: Connection, subjects: Collection[str]) -> tuple[LedgerLine, ...]:
    columns = ledger_entries.c
    wanted = sorted(subjects)
    found = []
    for start in range(0, len(wanted), _BATCH):
        query = select(columns.entry).where(columns.subject.in_(wanted[start : start + _BATCH]))
        for (data,) in connection.execute(query):
            entry = parse_entry(bytes(data))
            found.append(
                LedgerLine(
                    index=entry.index,
                    time=entry.time,
                    action=entry.action,
                    actor=entry.actor,
                    subject=entry.subject,
                    raw=bytes(data).decode(),
                )
            )
    return tuple(sorted(found, key=lambda line: line.index))


def _failed(problem: str, *, size: int = 0, root: str = "unknown", entries: tuple[LedgerLine, ...] = ()) -> LedgerStatus:
    message = f"The ledger does not verify: {problem}."
    return LedgerStatus(state="failed", message=message, size=size, root_hash=root, last_time=None, entries=entries)
