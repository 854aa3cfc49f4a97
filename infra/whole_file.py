"""Files that appear under their name once they are whole and on the disk, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from infra.errors import BadSettingError

_PRIVATE = 0o600


@contextmanager
def whole_file(path: Path, *, mode: int = _PRIVATE) -> Iterator[BinaryIO]:
    """Opens a file to write that takes its name, and the place of one that is there, when the context ends well.

    Args:
        path: Its name; the folder is there.
        mode: Its permissions.

    Raises:
        BadSettingError: The file cannot be made.
        OSError: The disk is full.
    """
    if path.is_dir():
        raise BadSettingError(f"{path} is a folder", hint="name a file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise BadSettingError(f"{path} cannot be written: {error.strerror}", hint="choose another file") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - atomic on purpose
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Has what happened to the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
