"""Anchors: signed checkpoints of a log that are kept apart from it, and say how far it had come and what was in it.

Truncation and a full rewrite of a log can be seen from outside alone: whoever has its database and its key can sign any history.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from governance import merkle
from governance.checkpoint import parse_checkpoint
from governance.errors import BadRecordError, IntegrityError, RefusedError
from governance.log_keys import LogKeys
from infra.ledger_nodes import StoredNodes

_MAX_NOTE_BYTES = 262_144


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A signed checkpoint that was kept.

    Attributes:
        source: Where it is kept.
        size: Number of entries that the log had.
        root_hash: Root of the tree over them.
    """

    source: str
    size: int
    root_hash: bytes


def read_anchors(paths: Iterable[Path], keys: LogKeys) -> list[Anchor]:
    """Reads anchors from files, and from folders of files; in a folder, what is no checkpoint of this log is passed over.

    Raises:
        BadRecordError: A file cannot be read, or a folder holds no checkpoint of this log.
        IntegrityError: A file is no checkpoint of this log, or its signature does not hold.
    """
    found: list[Anchor] = []
    for path in paths:
        if not path.is_dir():
            found.append(verified_anchor(str(path), _read(path), keys))
            continue
        own = list(_of_folder(path, keys))
        if not own:
            raise BadRecordError(
                f"{path} holds no checkpoint of {keys.current.name}", hint="name the folder where its checkpoints are kept"
            )
        found += own
    return found


def verified_anchor(source: str, note: str, keys: LogKeys) -> Anchor:
    """Returns an anchor from a signed note.

    Args:
        source: Where it is kept.
        note: The note.
        keys: The log's keys.

    Raises:
        IntegrityError: It is no checkpoint of this log, or its signature does not hold.
    """
    try:
        checkpoint = keys.verify(note)
    except IntegrityError as error:
        raise IntegrityError(f"anchor {source}: {error.diagnosis}") from error
    return Anchor(source=source, size=checkpoint.size, root_hash=checkpoint.root_hash)


def check_not_older(size: int, anchors: Sequence[Anchor], *, allow_older: bool) -> Anchor | None:
    """Refuses a ledger that is older than an anchor, unless told so.

    Args:
        size: Number of entries of the ledger.
        anchors: The anchors.
        allow_older: Whether to go on all the same.

    Returns:
        The newest anchor beyond the ledger's end, None if there is none.

    Raises:
        RefusedError: There is one.
    """
    newest = max(anchors, key=lambda anchor: anchor.size, default=None)
    if newest is None or newest.size <= size:
        return None
    if not allow_older:
        raise RefusedError(
            f"the backup's ledger has {size:,} entries, an anchored checkpoint has {newest.size:,}: the backup is older",
            hint="use a newer backup; --allow-older restores it all the same, and the ledger will say so",
        )
    return newest


def check_same_history(connection: Connection, size: int, anchors: Iterable[Anchor]) -> None:
    """Refuses a ledger whose first entries are not those that an anchor fixed.

    Raises:
        IntegrityError: It is another history.
    """
    for anchor in anchors:
        if anchor.size <= size and merkle.root_hash(anchor.size, StoredNodes(connection)) != anchor.root_hash:
            raise IntegrityError(
                f"the backup's first {anchor.size:,} entries are not those of an anchored checkpoint: it is another history",
                hint="keep backup and anchor as evidence; this cannot be overruled",
            )


def _of_folder(folder: Path, keys: LogKeys) -> Iterator[Anchor]:
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.stat().st_size > _MAX_NOTE_BYTES:
            continue
        try:
            note = _read(path)
            origin = parse_checkpoint(note)[0].origin
        except (BadRecordError, IntegrityError):
            continue
        if origin in keys.names:
            yield verified_anchor(str(path), note, keys)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_NOTE_BYTES).decode()
    except OSError as error:
        raise BadRecordError(f"anchor {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRecordError(f"anchor {path} is no text") from error
