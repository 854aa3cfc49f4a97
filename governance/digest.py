"""Digests of files and folders.

A file's digest is the SHA-256 of its bytes; a folder's covers the names and contents of all regular files below it.
Both are 64 lowercase hexadecimal characters.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

from governance.errors import IntegrityError

_BLOCK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def file_digests(folder: Path, *, exclude: Collection[str] = ()) -> dict[str, str]:
    """Returns the SHA-256 of each regular file below a folder, by POSIX relative path, sorted by path.

    Args:
        folder: The folder to read.
        exclude: Relative POSIX paths to leave out.

    Raises:
        IntegrityError: The folder holds a symbolic link or something that is neither file nor folder, whose
            target a digest could not cover.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path} is neither a regular file nor a folder", hint="replace links by what they point to")
        if path.is_file() and name not in exclude:
            found[name] = sha256_file(path)
    return found


def tree_digest(folder: Path, *, exclude: Collection[str] = ()) -> str:
    """Returns the digest of a folder: SHA-256 over one line ``<sha256>  <path>`` a file, sorted by path.

    The lines are those of ``sha256sum``, so a folder's digest can be recomputed with standard tools.

    Args:
        folder: The folder to read.
        exclude: Relative POSIX paths to leave out.

    Raises:
        IntegrityError: As for `file_digests`, or a file name holds a line break.
    """
    lines = []
    for name, digest in file_digests(folder, exclude=exclude).items():
        if "\n" in name:
            raise IntegrityError(f"a file name in {folder} holds a line break: {name!r}")
        lines.append(f"{digest}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
