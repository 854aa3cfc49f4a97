"""Anchors: signed checkpoints of a log that are kept apart from its backups, and say how far it had come."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from governance.checkpoint import Checkpoint, key_name, parse_checkpoint, verify_checkpoint
from governance.errors import BadRecordError, IntegrityError, RefusedError
from infra.ledger import root_hash

_MAX_NOTE_BYTES = 262_144


def read_anchors(paths: Iterable[Path], public_key: Ed25519PublicKey) -> list[Checkpoint]:
    """Reads anchors from files, and from folders of files; in a folder, what is no checkpoint of this log is passed over.

    Raises:
        BadRecordError: A file cannot be read, or a folder holds no checkpoint of this log.
        IntegrityError: A file is no checkpoint of this log, or its signature does not hold.
    """
    found: list[Checkpoint] = []
    for path in paths:
        if not path.is_dir():
            found.append(_verified(path, _read(path), public_key))
            continue
        own = list(_of_folder(path, public_key))
        if not own:
            raise BadRecordError(
                f"{path} holds no checkpoint of {key_name(public_key)}", hint="name the folder where its checkpoints are kept"
            )
        found += own
    return found


def check_not_older(size: int, anchors: Sequence[Checkpoint], *, allow_older: bool) -> Checkpoint | None:
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


def check_same_history(connection: Connection, size: int, anchors: Iterable[Checkpoint]) -> None:
    """Refuses a ledger whose first entries are not those that an anchor fixed.

    Raises:
        IntegrityError: It is another history.
    """
    for anchor in anchors:
        if anchor.size <= size and root_hash(connection, anchor.size) != anchor.root_hash:
            raise IntegrityError(
                f"the backup's first {anchor.size:,} entries are not those of an anchored checkpoint: it is another history",
                hint="keep backup and anchor as evidence; this cannot be overruled",
            )


def _of_folder(folder: Path, public_key: Ed25519PublicKey) -> Iterator[Checkpoint]:
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.stat().st_size > _MAX_NOTE_BYTES:
            continue
        try:
            note = _read(path)
            origin = parse_checkpoint(note)[0].origin
        except (BadRecordError, IntegrityError):
            continue
        if origin == key_name(public_key):
            yield _verified(path, note, public_key)


def _verified(path: Path, note: str, public_key: Ed25519PublicKey) -> Checkpoint:
    try:
        return verify_checkpoint(note, public_key)
    except IntegrityError as error:
        raise IntegrityError(f"anchor {path}: {error.diagnosis}") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_NOTE_BYTES).decode()
    except OSError as error:
        raise BadRecordError(f"anchor {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRecordError(f"anchor {path} is no text") from error
