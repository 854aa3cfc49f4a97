"""Folders of files on a store that a URL names: a plain folder, S3, or anything else that fsspec knows.

What is stored is verified before it counts as stored, and what is read before it gets its name. Files that the store holds
already are not sent again, so an attempt that was interrupted is finished by the next one.

| location | a file's SHA-256 | verified when stored | when read |
|---|---|---|---|
| a folder, ``file://`` | none is kept | by hashing the copy | by hashing the copy |
| ``s3://bucket/prefix`` | the metadata | by the server's checksum or ETag | against the metadata, if the server kept it |
| another URL of fsspec's | none is kept | by reading it back | by whoever knows its digest |
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from governance.digest import file_digests, sha256_file
from governance.errors import IntegrityError
from infra.errors import BackendUnavailableError, BadSettingError
from infra.objects.errors import translated_store_errors
from infra.settings import without_password

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

MAX_OBJECTS = 10_000
PARTIAL = ".partial"
_MAX_NAME_BYTES = 1024  # S3's own bound on a key
_BLOCK_BYTES = 1 << 20
_REFUSED = frozenset({"mlflow-artifacts", "http", "https", "data"})


class Store(Protocol):
    """One place that holds files by their relative POSIX paths."""

    def check(self) -> None:
        """Asks whether the store is there and can be listed."""

    def put(self, files: Mapping[str, Path], progress: Progress) -> None:
        """Stores local files under these names, and verifies what is stored."""

    def verify(self, files: Mapping[str, Path], unchecked: Collection[str]) -> None:
        """Verifies that exactly these local files are stored, by what the store says of them where it keeps digests."""

    def get(self, folder: Path, progress: Progress) -> None:
        """Brings every file into a folder; a file has its name only once it is whole."""


def is_remote(location: str) -> bool:
    """Returns whether a location is neither a plain folder nor a ``file://`` URL."""
    return urlsplit(location).scheme not in {"", "file"}


def local_path(location: str) -> Path:
    """Returns the path of a location that is not remote."""
    return Path(unquote(urlsplit(location).path)) if location.startswith("file:") else Path(location)


def open_store(location: str) -> Store:
    """Returns the store at a location; nothing is asked of it yet.

    Raises:
        BadSettingError: Nothing can be stored there: no such kind of store, or its library is not installed.
    """
    if not is_remote(location):
        return _FolderStore(local_path(location))
    scheme = urlsplit(location).scheme
    shown = without_password(location)
    if urlsplit(location).password:  # it would be kept as the location of whatever is stored
        raise BadSettingError(f"the artifact root {shown} has a password in it", hint="give credentials by the AWS_* variables")
    if scheme in _REFUSED:
        raise BadSettingError(
            f"artifacts cannot be stored at {shown}",
            hint="set GROUNDSWELL_ARTIFACT_ROOT to a folder or an s3:// URL, and use an MLflow experiment that was made with it",
        )
    try:
        if scheme == "s3":
            from infra.objects.s3_store import S3Store

            return S3Store(location)
        import fsspec

        with translated_store_errors(shown):
            file_system, path = fsspec.core.url_to_fs(location)
    except ImportError as error:
        raise BadSettingError(f"{scheme}:// needs a library that is not installed: {error.name or error}") from error
    except ValueError as error:
        raise BadSettingError(f"{scheme}:// is no kind of store that is known", hint="use a folder or an s3:// URL") from error
    return _GenericStore(file_system, path, shown)


def check_store(location: str) -> None:
    """Asks a store whether it is there and can be listed.

    Raises:
        BackendUnavailableError: It is out of reach or refuses the credentials.
        BadSettingError: Nothing can be stored there.
    """
    open_store(location).check()


def put_tree(folder: Path, location: str, *, progress: Progress = lambda *_: None) -> None:
    """Stores every file of a folder, and verifies what is stored.

    Raises:
        IntegrityError: What is stored is not what was sent, or the folder holds a link.
        BackendUnavailableError: The store is out of reach, full, or refuses the credentials.
        BadSettingError: Nothing can be stored there.
    """
    open_store(location).put({name: folder / name for name in file_digests(folder)}, progress)


def verify_tree(folder: Path, location: str, *, unchecked: Collection[str] = ()) -> None:
    """Verifies that exactly the files of a folder are stored, without bringing them here from S3: by the server's own digests.

    Args:
        folder: What should be stored.
        location: Where.
        unchecked: Files that must be there, whatever they hold.

    Raises:
        IntegrityError: A file is missing, was changed, or was added, naming it.
        BackendUnavailableError: The store is out of reach or refuses the credentials.
    """
    open_store(location).verify({name: folder / name for name in file_digests(folder)}, unchecked)


def get_tree(location: str, folder: Path, *, progress: Progress = lambda *_: None) -> None:
    """Brings every file at a location into a folder; an interrupted attempt is taken up.

    Raises:
        IntegrityError: A file is not what was stored, has a name that leaves the folder, or there is none at all.
        BackendUnavailableError: The store is out of reach or refuses the credentials; or this machine has no room.
        BadSettingError: The location is no kind of store that is known.
    """
    store = open_store(location)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store.get(folder, progress)
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise IntegrityError(f"{without_password(location)} holds a file and a folder of one name") from error


def checked_name(name: str, *, where: str) -> str:
    """Returns a name from a listing if it stays below the folder that it is put into.

    Raises:
        IntegrityError: It does not.
    """
    parts = name.split("/")
    harmless = all(part not in {"", ".", ".."} for part in parts) and parts[0] != PARTIAL
    printable = name.isprintable() and "\\" not in name and ":" not in parts[0]
    if not harmless or not printable or len(name.encode(errors="replace")) > _MAX_NAME_BYTES:
        raise IntegrityError(
            f"{where} holds an object whose name is refused: {name!r:.100}", hint="it was not stored by groundswell"
        )
    return name


def check_names(stored: Collection[str], expected: Collection[str], *, where: str) -> None:
    """Refuses a store that does not hold exactly these files.

    Raises:
        IntegrityError: Naming the first file that is missing, or is there beside them.
    """
    for name in sorted(set(expected) - set(stored)):
        raise IntegrityError(f"{name} of {where} is gone", hint="restore the artifact store from a backup")
    for name in sorted(set(stored) - set(expected)):
        raise IntegrityError(f"{where} holds {name!r:.100}, which was not stored", hint="it was not stored by groundswell")


def checked_listing(sizes: Mapping[str, int], *, where: str, folder: Path) -> None:
    """Refuses a listing that cannot be brought here.

    Args:
        sizes: Bytes by name.
        where: The store as an error names it.
        folder: Where the files are to go.

    Raises:
        IntegrityError: It is empty, too long, or a name leaves the folder.
        BackendUnavailableError: The disk has less room than the files need.
    """
    if not sizes:
        raise IntegrityError(f"there is nothing at {where}", hint="restore the artifact store from a backup")
    if len(sizes) > MAX_OBJECTS:
        raise IntegrityError(f"{where} holds more than {MAX_OBJECTS:,} objects", hint="it was not stored by groundswell")
    for name in sizes:
        checked_name(name, where=where)
    needed, free = sum(sizes.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise BackendUnavailableError(
            f"{folder} has no room for {needed:,} bytes: {free:,} are free", hint="free some space and try again"
        )


def changed(name: str, where: str, *, expected: str, found: str) -> IntegrityError:
    """Returns the error for a stored file that is not what was stored."""
    return IntegrityError(
        f"{name} of {where} was changed: {expected[:12]} was stored, {found[:12]} is there",
        hint="do not use it; restore the artifact store from a backup",
    )


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Turns an error of this machine's disk into ours.

    Raises:
        BackendUnavailableError: The disk is full or cannot be written.
    """
    try:
        yield
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise
    except OSError as error:
        raise BackendUnavailableError(
            f"{path} cannot be read or written: {error.strerror or error}",
            hint="check the disk, its free space and its permissions",
        ) from error


class _FolderStore:
    """A folder on this machine, or one that is shared."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self) -> None:
        return  # it is made when something is stored

    def put(self, files: Mapping[str, Path], progress: Progress) -> None:
        with translated_store_errors(str(self._folder)):
            total, done = sum(path.stat().st_size for path in files.values()), 0
            for name, path in files.items():
                _copy(path, self._folder / checked_name(name, where=str(self._folder)))
                done += path.stat().st_size
                progress(done, total)

    def verify(self, files: Mapping[str, Path], unchecked: Collection[str]) -> None:
        stored = self._digests()
        check_names(stored, files, where=str(self._folder))
        for name, path in files.items():
            if name not in unchecked and stored[name] != sha256_file(path):
                raise changed(name, str(self._folder), expected=sha256_file(path), found=stored[name])

    def get(self, folder: Path, progress: Progress) -> None:
        names = self._digests()
        checked_listing({name: (self._folder / name).stat().st_size for name in names}, where=str(self._folder), folder=folder)
        _FolderStore(folder).put({name: self._folder / name for name in names}, progress)

    def _digests(self) -> dict[str, str]:
        if not self._folder.is_dir():
            raise IntegrityError(f"there is nothing at {self._folder}", hint="restore the artifact store from a backup")
        return file_digests(self._folder)


class _GenericStore:
    """Any file system of fsspec's; it keeps no digests, so what was stored is read back once."""

    def __init__(self, file_system: Any, path: str, shown: str) -> None:
        self._files = file_system
        self._path = path.rstrip("/")
        self._shown = shown

    def check(self) -> None:
        with translated_store_errors(self._shown):
            self._files.exists(self._path)

    def put(self, files: Mapping[str, Path], progress: Progress) -> None:
        total, done = sum(path.stat().st_size for path in files.values()), 0
        for name, path in files.items():
            target = f"{self._path}/{checked_name(name, where=self._shown)}"
            with translated_store_errors(self._shown, name=name):
                self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(path), f"{target}{PARTIAL}")
                if self._digest(f"{target}{PARTIAL}") != sha256_file(path):
                    raise IntegrityError(f"{name} of {self._shown} is not what was sent", hint="check the store, and try again")
                self._files.mv(f"{target}{PARTIAL}", target)
            done += path.stat().st_size
            progress(done, total)

    def verify(self, files: Mapping[str, Path], unchecked: Collection[str]) -> None:
        check_names(self._sizes(), files, where=self._shown)
        for name, path in files.items():
            if name in unchecked:
                continue
            with translated_store_errors(self._shown, name=name):
                found = self._digest(f"{self._path}/{name}")
            if found != sha256_file(path):
                raise changed(name, self._shown, expected=sha256_file(path), found=found)

    def get(self, folder: Path, progress: Progress) -> None:
        sizes = self._sizes()
        checked_listing(sizes, where=self._shown, folder=folder)
        done = 0
        for name, size in sizes.items():
            partial = folder / PARTIAL / name
            partial.parent.mkdir(parents=True, exist_ok=True)
            with translated_store_errors(self._shown, name=name):
                self._files.get_file(f"{self._path}/{name}", str(partial))
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            partial.replace(folder / name)
            done += size
            progress(done, sum(sizes.values()))

    def _sizes(self) -> dict[str, int]:
        with translated_store_errors(self._shown):
            found = self._files.find(self._path, detail=True) if self._files.exists(self._path) else {}
        return {path.removeprefix(self._path).removeprefix("/"): int(info["size"] or 0) for path, info in found.items()}

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._files.open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copies a file unless it is there already; the copy has its name only once its bytes are on the disk and verified."""
    digest = sha256_file(source)
    if target.is_file() and not target.is_symlink() and sha256_file(target) == digest:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}{PARTIAL}")
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        _verify_copy(source, partial, digest)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _verify_copy(source: Path, copy: Path, digest: str) -> None:
    if sha256_file(copy) != digest:
        raise IntegrityError(f"the copy of {source.name} in {copy.parent} is not what was copied", hint="check the disk")
