"""Imports lineage events of other producers: a file in one unit of work, with one ledger entry that commits to it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, select

from governance.errors import BadRecordError, IntegrityError
from governance.imported_lineage import ACTION, Told, import_subject, told_by
from governance.lineage import Event
from infra.database import Database, UnitOfWork
from infra.event_files import EventReader, ReadEvent, open_events
from infra.lineage import event_text, record_events
from infra.tables import ledger_entries, lineage_events

_BATCH = 400
_BATCH_CHARACTERS = 1 << 21
_MAX_PRODUCERS = 32
_PRODUCER_CHARACTERS = 200
_BEGUN, _ENDED = frozenset({"START"}), frozenset({"COMPLETE", "ABORT", "FAIL"})

Progress = Callable[[int, int], None]
"""Called with bytes read and bytes in all; each file is read twice."""


@dataclass(frozen=True, kw_only=True)
class ImportOutcome:
    """What an import has come to.

    Attributes:
        sha256: The file's digest.
        num_events: How many events it holds.
        num_new: How many of them were not on record from another import.
        producers: How many events each producer has in it.
        index: The ledger's entry that commits to them; None where nothing in it is new.
        is_repeated: Whether this very file was imported before.
    """

    sha256: str
    num_events: int
    num_new: int
    producers: Mapping[str, int]
    index: int | None
    is_repeated: bool


def import_events(db: Database, path: Path, *, actor: str, progress: Progress = lambda *_: None) -> ImportOutcome:
    """Imports a file of OpenLineage events, static lineage too: all that are not on record from another import, or nothing.

    Args:
        db: The database.
        path: The file: one event, a JSON array, or JSON lines.
        actor: The id of the identity that imports it.
        progress: Told how far it has come.

    Raises:
        BadRecordError: It is no regular file or holds something else than such events, or another event says that a run of them
            began or ended.
        IntegrityError: The file was changed meanwhile.
        BackendUnavailableError: The database cannot be written.
        OSError: The file cannot be read.
    """
    with open_events(path) as file:
        return import_stream(db, file, str(path), actor=actor, progress=progress)


def import_stream(db: Database, file: BinaryIO, name: str, *, actor: str, progress: Progress = lambda *_: None) -> ImportOutcome:
    """Imports events as `import_events` does, from an open file at its beginning that can be read twice.

    Args:
        db: The database.
        file: The file.
        name: What to call it in errors.
        actor: The id of the identity that imports it.
        progress: Told how far it has come.
    """
    seen = _look_through(file, name, progress)
    repeated = ImportOutcome(**seen, num_new=0, index=None, is_repeated=True)
    with db.read() as connection:
        if _is_imported(connection, seen["sha256"]):
            return repeated
    with db.unit_of_work() as uow:
        if _is_imported(uow.connection, seen["sha256"]):
            return repeated
        num_new = _write(uow, file, name, seen["sha256"], progress)
        index = _append(uow, seen, actor=actor) if num_new else None
    return ImportOutcome(**seen, num_new=num_new, index=index, is_repeated=False)


def _look_through(file: BinaryIO, name: str, progress: Progress) -> dict[str, Any]:
    """Checks every event of a file, before the write lock is taken."""
    reader, total = EventReader(file, name), _size(file)
    num_events, producers = 0, Counter[str]()
    for read in reader.events():
        num_events += 1
        producer = read.event["producer"][:_PRODUCER_CHARACTERS]
        producers[producer if producer in producers or len(producers) < _MAX_PRODUCERS else "others"] += 1
        progress(reader.size_bytes, 2 * total)
    if not num_events:
        raise BadRecordError(f"{name} holds no event", hint="export OpenLineage events as JSON lines, or as a JSON array")
    return {"sha256": reader.sha256, "num_events": num_events, "producers": dict(sorted(producers.items()))}


def _size(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _write(uow: UnitOfWork, file: BinaryIO, name: str, sha256: str, progress: Progress) -> int:
    reader, total = EventReader(file, name), _size(file)
    num_new = 0
    for batch in _batches(reader.events()):
        new = _new_events(uow.connection, batch, name)
        record_events(uow, new, imported=sha256)
        num_new += len(new)
        progress(total + reader.size_bytes, 2 * total)
    if reader.sha256 != sha256:
        raise IntegrityError(f"{name} was changed while it was read", hint="import it again when nobody writes it any longer")
    return num_new


def _batches(events: Iterator[ReadEvent]) -> Iterator[list[ReadEvent]]:
    """Yields events in lists that are bounded in number and in size."""
    batch: list[ReadEvent] = []
    size = 0
    for read in events:
        batch.append(read)
        size += read.num_characters
        if len(batch) == _BATCH or size > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _new_events(connection: Connection, batch: list[ReadEvent], name: str) -> list[Event]:
    """Leaves out events that were imported before, and refuses a second word about a run's beginning or end."""
    told = [told_by(read.event, imported=True) for read in batch]
    texts, states = _imported_before(connection, told)
    new = []
    for read, one in zip(batch, told, strict=True):
        text = event_text(read.event)
        if text in texts:
            continue
        if (state := _state(one.run_id, one.job, one.event_type)) is not None:
            if state in states:
                said = "began" if one.event_type in _BEGUN else "ended"
                raise BadRecordError(
                    f"{name}, line {read.line}: another event says already that run {one.run_id} of job {one.job:.80} {said}",
                    hint="a run has one START and one of COMPLETE, ABORT and FAIL; leave out the event that is wrong",
                )
            states.add(state)
        texts.add(text)
        new.append(read.event)
    return new


def _imported_before(connection: Connection, told: list[Told]) -> tuple[set[str], set[tuple[str, str, bool]]]:
    """Returns imported events that may be among those of a batch, and what is known of the beginnings and ends of its runs."""
    columns = lineage_events.c
    is_due = columns.event_type.in_(sorted(_BEGUN | _ENDED)) | columns.time.in_(sorted({one.time for one in told}))
    query = select(columns.run_id, columns.job, columns.event_type, columns.event).where(
        columns.run_id.in_(sorted({one.run_id for one in told})), columns.imported.is_not(None), is_due
    )
    rows = connection.execute(query).all()
    states = {_state(row.run_id, row.job, row.event_type) for row in rows}
    return {row.event for row in rows}, {state for state in states if state is not None}


def _state(run_id: str, job: str, event_type: str) -> tuple[str, str, bool] | None:
    """Returns what an event says at most once; None for one that may be said again."""
    return (run_id, job, event_type in _ENDED) if event_type in _BEGUN | _ENDED else None


def _append(uow: UnitOfWork, seen: Mapping[str, Any], *, actor: str) -> int:
    details = {"num_events": seen["num_events"], "producers": seen["producers"], "lineage": uow.lineage()}
    return uow.append(ACTION, import_subject(seen["sha256"]), details, actor=actor)


def _is_imported(connection: Connection, sha256: str) -> bool:
    columns = ledger_entries.c
    query = select(columns.index).where(columns.subject == import_subject(sha256), columns.action == ACTION)
    return connection.execute(query).first() is not None
