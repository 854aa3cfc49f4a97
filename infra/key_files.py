"""Files that hold keys and passphrases: for their owner only, never half-written, on the disk before anything relies on them."""

import os
import secrets
from pathlib import Path

from infra.errors import BackendUnavailableError, BadSettingError
from infra.whole_file import sync_folder


def read_private_file(path: Path, what: str) -> bytes:
    """Returns what is in a file that only its owner may read.

    Args:
        path: The file.
        what: What it holds, as errors say it.

    Raises:
        BadSettingError: It is missing, or others can read it.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise BadSettingError(f"{what} {path} can be read by others", hint=f"chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise BadSettingError(f"{what} {path} cannot be read: {error.strerror}") from error


def write_once(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole and durably unless it exists; it never exists half-written.

    Raises:
        BackendUnavailableError: The folder cannot be written.
    """
    temporary = _written_beside(path, data, mode)
    try:
        os.link(temporary, path)
        sync_folder(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        raise BackendUnavailableError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole and durably in the place of one that may be there; at any moment it is the one or the other.

    Raises:
        BackendUnavailableError: The folder cannot be written.
    """
    temporary = _written_beside(path, data, mode)
    try:
        move_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def move_file(source: Path, target: Path) -> None:
    """Puts a file in the place of another of the same folder, durably.

    Raises:
        BackendUnavailableError: The folder cannot be written.
    """
    try:
        os.replace(source, target)  # noqa: PTH105 - atomic on purpose
        sync_folder(target.parent)
    except OSError as error:
        raise BackendUnavailableError(f"{target} cannot be written: {error.strerror}") from error


def remove_file(path: Path) -> None:
    """Removes a file, if it is there, durably.

    Raises:
        BackendUnavailableError: The folder cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise BackendUnavailableError(f"{path} cannot be removed: {error.strerror}") from error


def _written_beside(path: Path, data: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BackendUnavailableError(f"{path} cannot be written: {error.strerror}") from error
        raise
    return temporary
