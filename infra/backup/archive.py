"""The tar file of a backup: written as a stream with a digest of every member, read only after all of it was verified.

Headers are those of the standard library's `tarfile`, so that any tar lists and unpacks a backup. Reading takes regular files
with plain names and nothing else, and holds one block of a file in memory at a time.
"""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from governance.errors import BadRecordError, IntegrityError
from infra.backup.format import MAX_LINE_BYTES, MAX_MEMBERS, MAX_NAME_BYTES, MAX_SMALL_BYTES, SUMS, is_member_name
from infra.whole_file import whole_file

_BLOCK = tarfile.BLOCKSIZE
_MODE = 0o600
_COPY_BYTES = 1 << 20
_SUM_LINE_BYTES = 66 + MAX_NAME_BYTES


@contextmanager
def writing(path: Path) -> Iterator["TarWriter"]:
    """Writes a backup that appears under its name (0600) once it is whole and on the disk; otherwise nothing is left.

    Raises:
        BadSettingError: The file cannot be written.
        OSError: The disk is full.
    """
    with whole_file(path) as file:
        writer = TarWriter(file)
        yield writer
        writer.finish()


class TarWriter:
    """Appends members to a tar file.

    Args:
        file: A file that can seek.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sums: dict[str, str] = {}

    def add_bytes(self, name: str, data: bytes) -> None:
        """Adds a member."""
        self.add_blocks(name, iter((data,)))

    def add_file(self, name: str, path: Path) -> str | None:
        """Adds a file and returns its SHA-256; None for one that was deleted meanwhile.

        Raises:
            IntegrityError: It is a link, or neither file nor folder.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if path.is_symlink():
                raise IntegrityError(f"{path} is a link", hint="replace links by what they point to") from error
            raise
        with os.fdopen(descriptor, "rb") as source:
            return self.add_blocks(name, iter(lambda: source.read(_COPY_BYTES), b""))

    def add_blocks(self, name: str, blocks: Iterator[bytes]) -> str:
        """Adds a member whose size is known only at its end, and returns its SHA-256."""
        if not is_member_name(name):
            raise BadRecordError(f"{name!r:.200} cannot be backed up: it is no plain path", hint="rename it")
        start = self._file.tell()
        self._file.write(_header(name, 0))
        digest, size = hashlib.sha256(), 0
        for block in blocks:
            self._file.write(block)
            digest.update(block)
            size += len(block)
        self._file.write(bytes(-size % _BLOCK))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_header(name, size))
        self._file.seek(end)
        self._sums[name] = digest.hexdigest()
        return self._sums[name]

    def finish(self) -> None:
        """Adds the digests of all members, and ends the archive."""
        lines = (f"{digest}  {name}\n".encode() for name, digest in list(self._sums.items()))
        self.add_blocks(SUMS, lines)
        self._file.write(bytes(2 * _BLOCK))
        self._file.write(bytes(-self._file.tell() % tarfile.RECORDSIZE))


@dataclass(frozen=True)
class _Member:
    offset: int
    size: int


class TarReader:
    """A backup that is read, with every member's digest known. Open it with `TarReader.open`."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._members = _scan(file)
        self._sums = self._read_sums()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Opens a backup; looks at its members' headers and digests only, so see `verify`.

        Raises:
            BadRecordError: It is no backup, or holds what no backup holds.
            IntegrityError: It is cut off, or its list of digests is not that of its members.
        """
        with path.open("rb") as file:
            yield cls(file, path)

    @property
    def names(self) -> list[str]:
        """The members, without the list of digests."""
        return list(self._sums)

    @property
    def size_bytes(self) -> int:
        """What the members hold in all."""
        return sum(member.size for member in self._members.values())

    def digest(self, name: str) -> str:
        """Returns the SHA-256 that the list of digests has for a member."""
        return self._sums[name]

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def verify(self, progress: Callable[[int], None]) -> None:
        """Compares every member with its digest.

        Args:
            progress: Told how many bytes were looked at.

        Raises:
            IntegrityError: Naming the first that differs.
        """
        done = 0
        for name in self._sums:
            for block in self.blocks(name):
                done += len(block)
                progress(done)

    def read(self, name: str) -> bytes:
        """Returns a small member's bytes.

        Raises:
            BadRecordError: There is no such member, or it is too large to be what its name says.
            IntegrityError: It is not what the list of digests says.
        """
        if name not in self._sums:
            raise BadRecordError(f"{self._path} is no backup: it has no {name}")
        if self._members[name].size > MAX_SMALL_BYTES:
            raise BadRecordError(f"{name} of the backup is too large", hint="nothing was restored")
        return b"".join(self.blocks(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yields a member's bytes; the end is reached only if they are those of its digest.

        Raises:
            IntegrityError: They are not.
        """
        digest = hashlib.sha256()
        for block in self._raw(name):
            digest.update(block)
            yield block
        if digest.hexdigest() != self._sums[name]:
            raise IntegrityError(f"{name} of the backup was changed: it is not what {SUMS} says", hint="use another backup")

    def lines(self, name: str) -> Iterator[bytes]:
        """Yields a member's lines without their ends.

        Raises:
            BadRecordError: One is longer than any row, or the last has no end.
            IntegrityError: They are not those of its digest.
        """
        rest = b""
        for block in self.blocks(name):
            *whole, rest = (rest + block).split(b"\n") if b"\n" in block else (rest + block,)
            yield from whole
            if len(rest) > MAX_LINE_BYTES:
                raise BadRecordError(f"{name} of the backup holds a line that is too long", hint="nothing was restored")
        if rest:
            raise BadRecordError(f"{name} of the backup ends within a line", hint="nothing was restored")

    def _raw(self, name: str) -> Iterator[bytes]:
        member = self._members[name]
        position, end = member.offset, member.offset + member.size
        while position < end:
            self._file.seek(position)
            block = self._file.read(min(_COPY_BYTES, end - position))
            if not block:
                raise _cut_off()
            position += len(block)
            yield block

    def _read_sums(self) -> dict[str, str]:
        last = next(reversed(self._members), None)
        if last != SUMS:
            raise BadRecordError(f"{self._path} is no backup: its last member is not {SUMS}")
        if self._members[SUMS].size > _SUM_LINE_BYTES * len(self._members):
            raise BadRecordError(f"{SUMS} of the backup is too large")
        try:
            lines = b"".join(self._raw(SUMS)).decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{SUMS} of the backup is no text") from error
        sums = {name: digest for digest, separator, name in (line.partition("  ") for line in lines) if separator}
        names = self._members.keys() - {SUMS}
        if sums.keys() != names or len(lines) != len(names):
            name = min(sums.keys() ^ names, default=SUMS)
            raise IntegrityError(f"{SUMS} of the backup and its members disagree about {name!r:.200}", hint="use another backup")
        return sums


def _scan(file: BinaryIO) -> dict[str, _Member]:
    """Returns where the members are, after looking at every header of the archive."""
    found: dict[str, _Member] = {}
    folders: set[str] = set()
    for name, member in _members(file):
        if not is_member_name(name):
            raise BadRecordError(f"the backup holds {name!r:.200}, which no backup holds", hint="nothing was restored")
        parents = {name[:end] for end, character in enumerate(name) if character == "/"}
        if name in found or name in folders or parents & found.keys():
            raise BadRecordError(f"the backup holds {name!r:.200} twice", hint="nothing was restored")
        if len(found) >= MAX_MEMBERS:
            raise BadRecordError(f"the backup holds more than {MAX_MEMBERS:,} members", hint="nothing was restored")
        folders |= parents
        found[name] = member
    return found


def _members(file: BinaryIO) -> Iterator[tuple[str, _Member]]:
    end = file.seek(0, os.SEEK_END)
    position, long_name = 0, None
    while True:
        file.seek(position)
        block = file.read(_BLOCK)
        if block == bytes(_BLOCK):
            break
        info = _parse_header(block, is_first=position == 0)
        data = position + _BLOCK
        position = data + info.size + -info.size % _BLOCK
        if info.size < 0 or position > end:
            raise _cut_off()
        if info.type == tarfile.GNUTYPE_LONGNAME and long_name is None and info.size <= MAX_NAME_BYTES + 1:
            file.seek(data)
            long_name = file.read(info.size).rstrip(b"\0").decode(errors="surrogateescape")
            continue
        name = info.name if long_name is None else long_name
        if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise BadRecordError(f"the backup holds {name!r:.200}, which is no plain file", hint="nothing was restored")
        yield name, _Member(offset=data, size=info.size)
        long_name = None
    file.seek(position)
    if long_name is not None or end - position > 2 * tarfile.RECORDSIZE or file.read().strip(b"\0"):
        raise BadRecordError("the backup goes on after its end", hint="nothing was restored")


def _parse_header(block: bytes, *, is_first: bool) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if is_first:
            raise BadRecordError("the file is no backup: it is no tar file", hint="`groundswell backup` makes one") from error
        if len(block) < _BLOCK:
            raise _cut_off() from error
        raise IntegrityError("the backup is damaged: a header of its archive is", hint="use another backup") from error


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = _MODE
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _cut_off() -> IntegrityError:
    return IntegrityError("the backup is cut off", hint="copy it again, or use another")
