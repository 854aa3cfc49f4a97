"""The files that rows of a table are made from: below the table's folder, and no links."""

from pathlib import Path, PurePosixPath
from typing import Final

from model_core.errors import BadDataError

MAX_BYTES: Final = 256 << 20
_HINT: Final = "put the file itself beside the table, or in a folder beside it"


def source_below(folder: Path, name: str) -> Path:
    """Returns the file that a table names, which lies below the table's folder.

    Args:
        folder: The table's folder.
        name: The path as the table has it.

    Raises:
        BadDataError: The path is none, leads out of the folder or through a link, or to no regular file, or to one too large.
    """
    parts = PurePosixPath(name).parts
    if "\0" in name or "\\" in name or not parts or parts[0] == "/" or ".." in parts:
        raise BadDataError(f"{name!r:.80} is no path below the table's folder", hint=_HINT)
    path = folder
    try:
        for part in parts:
            path /= part
            if path.is_symlink():
                raise BadDataError(f"{name!r:.80} leads through a symbolic link", hint=_HINT)
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            return path
    except OSError as error:
        raise BadDataError(f"{name!r:.80} cannot be read: {error.strerror}", hint=_HINT) from error
    raise BadDataError(f"{name!r:.80} is no regular file of at most {MAX_BYTES >> 20} MiB", hint=_HINT)
