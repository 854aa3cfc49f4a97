"""Witnesses: places outside a home that keep its signed checkpoints, so that nobody can take entries back unseen.

A witness is a folder, such as one on another disk, or a prefix of an S3 bucket, named by the setting ``witnesses``. What it is
given it keeps under a name that says log, size and root; nothing there is ever written over. Whoever has the home should not be
able to write over it either: a disk that is only appended to, or a bucket with object lock.
"""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from governance.checkpoint import Checkpoint, parse_checkpoint
from governance.errors import GovernanceError, IntegrityError
from governance.log_keys import LogKeys
from infra.anchors import Anchor, verified_anchor
from infra.errors import BackendUnavailableError, BadSettingError, InfraError
from infra.home import Home
from infra.ledger import sign_checkpoint
from infra.objects.store import is_remote, local_path
from infra.settings import without_password

_SUFFIX = ".checkpoint"
_NAME = re.compile(r"(?P<log>groundswell-[0-9a-f]{16})-(?P<size>[0-9]{12,19})-[0-9a-f]{16}\.checkpoint", re.ASCII)
_MAX_NOTES = 200
_MAX_LISTED = 1_000_000
_MAX_NOTE_BYTES = 262_144


class Witness(Protocol):
    """A place that keeps notes."""

    @property
    def location(self) -> str:
        """Where it is, as messages name it."""

    def keep(self, name: str, note: bytes) -> None:
        """Keeps a note under a name; one that is kept already stays."""

    def names(self) -> list[str]:
        """Returns the names of all that is kept."""

    def read(self, name: str) -> bytes:
        """Returns a note."""


@dataclass(frozen=True, kw_only=True)
class Testimony:
    """What a witness says of a log.

    Attributes:
        location: The witness.
        anchors: Its checkpoints of this log, oldest first; of very many, the newest and others spread evenly.
        problem: Why it could not be asked; empty where it was.
    """

    location: str
    anchors: tuple[Anchor, ...] = ()
    problem: str = ""


class FolderWitness:
    """A folder, made when something is kept.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def location(self) -> str:
        """The folder's path."""
        return str(self._folder)

    def keep(self, name: str, note: bytes) -> None:
        """Keeps a note, whole and durably, unless one of the name is there."""
        temporary = self._folder / f".{name}.{secrets.token_hex(4)}.partial"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if (self._folder / name).exists():
                return
            with temporary.open("xb") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._folder / name)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise BackendUnavailableError(f"witness {self.location} cannot be written: {error.strerror}") from error

    def names(self) -> list[str]:
        """Returns the names of all files in the folder."""
        try:
            return [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        except OSError as error:
            raise BackendUnavailableError(f"witness {self.location} cannot be read: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        """Returns a file."""
        try:
            with (self._folder / name).open("rb") as file:
                return file.read(_MAX_NOTE_BYTES)
        except OSError as error:
            raise BackendUnavailableError(f"witness {self.location} cannot be read: {error.strerror}") from error


class BucketWitness:
    """A prefix of an S3 bucket.

    Args:
        location: ``s3://bucket/prefix``.
    """

    def __init__(self, location: str) -> None:
        from infra.objects.s3_bucket import S3Bucket

        self._bucket = S3Bucket(location)
        self.location = without_password(location)

    def keep(self, name: str, note: bytes) -> None:
        """Stores a note unless an object of the name is there."""
        key = f"{self._bucket.prefix}{name}"
        if not self._bucket.call("list_objects_v2", Prefix=key, MaxKeys=1).get("Contents"):
            self._bucket.call("put_object", Key=key, Body=note)

    def names(self) -> list[str]:
        """Returns the names of all objects below the prefix."""
        return [item.name for item in self._bucket.list(limit=_MAX_LISTED)]

    def read(self, name: str) -> bytes:
        """Returns an object."""
        return self._bucket.fetch(Key=f"{self._bucket.prefix}{name}", Range=f"bytes=0-{_MAX_NOTE_BYTES - 1}")[1]


def open_witness(location: str) -> Witness:
    """Returns the witness at a location; nothing is asked of it yet.

    Raises:
        BadSettingError: It is neither a folder nor an ``s3://`` URL.
    """
    if not is_remote(location):
        return FolderWitness(local_path(location).expanduser().absolute())
    if location.startswith("s3://"):
        return BucketWitness(location)
    raise BadSettingError(f"{without_password(location)} is no witness", hint="name a folder or an s3:// URL")


def publish(locations: Iterable[str], note: str) -> list[str]:
    """Gives a signed checkpoint to every witness; one that is away misses it, and gets the next.

    Args:
        locations: The witnesses.
        note: The checkpoint.

    Returns:
        A line for each witness that did not take it.

    Raises:
        BadSettingError: A location is no witness.
    """
    name = _name(parse_checkpoint(note)[0])
    missed = []
    for witness in [open_witness(location) for location in locations]:
        try:
            witness.keep(name, note.encode())
        except (InfraError, GovernanceError) as error:
            missed.append(f"a witness missed this checkpoint: {error.diagnosis}")
    return missed


def sign_and_publish(home: Home) -> tuple[str, list[str]]:
    """Signs the ledger's head and gives the checkpoint to every witness.

    Returns:
        The signed note, and a line for each witness that did not take it.

    Raises:
        IntegrityError: The tree does not continue the checkpoint signed last.
        BadSettingError: The log's key cannot be used, or a location is no witness.
    """
    note = sign_checkpoint(home.database, home.keys)
    return note, publish(home.settings.witnesses, note)


def ask(locations: Iterable[str], keys: LogKeys) -> list[Testimony]:
    """Asks every witness for its checkpoints of a log.

    Args:
        locations: The witnesses.
        keys: The log's keys; what an earlier one has signed still counts.

    Raises:
        BadSettingError: A location is no witness.
        IntegrityError: A witness keeps something under the log's name that the log's key has not signed.
    """
    return [_asked(witness, keys) for witness in [open_witness(location) for location in locations]]


def _asked(witness: Witness, keys: LogKeys) -> Testimony:
    try:
        names = sorted(_own(witness.names(), keys.names), key=_size)
        anchors = [_anchor(witness, name, keys) for name in _spread(names)]
    except BackendUnavailableError as error:
        return Testimony(location=witness.location, problem=error.diagnosis)
    return Testimony(location=witness.location, anchors=tuple(sorted(anchors, key=lambda anchor: anchor.size)))


def _anchor(witness: Witness, name: str, keys: LogKeys) -> Anchor:
    source = f"{witness.location.rstrip('/')}/{name}"
    try:
        note = witness.read(name).decode()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"anchor {source} is no text") from error
    return verified_anchor(source, note, keys)


def _name(checkpoint: Checkpoint) -> str:
    log = checkpoint.origin.replace("/", "-")
    return f"{log}-{checkpoint.size:012d}-{checkpoint.root_hash.hex()[:16]}{_SUFFIX}"


def _own(names: Iterable[str], logs: Iterable[str]) -> Iterator[str]:
    own = {log.replace("/", "-") for log in logs}
    for name in names:
        found = _NAME.fullmatch(name)
        if found and found["log"] in own:
            yield name


def _size(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found["size"]) if found else -1


def _spread(names: list[str]) -> list[str]:
    """Returns the newest names and others spread evenly, so that a witness of many years is asked in bounded time."""
    half = _MAX_NOTES // 2
    older, newest = names[:-half], names[-half:]
    return older[:: max(1, -(-len(older) // half))] + newest
