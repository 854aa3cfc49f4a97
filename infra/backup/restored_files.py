"""Files that a restore puts into place all together, or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from governance.digest import sha256_file
from governance.errors import RefusedError
from infra.errors import BackendUnavailableError

_PREFIX = ".restore-"


class Staging:
    """Files written beside where they will be, on the same disks, so that they get their places by being renamed.

    A file that is there already stays if it is the same one, and is never replaced by another.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, Path] = {}
        self._moves: dict[Path, Path] = {}
        self._asides: list[tuple[Path, Path]] = []
        self._new: list[Path] = []

    @classmethod
    @contextmanager
    def open(cls) -> Iterator["Staging"]:
        """Opens a staging area; what was not put into place is gone at the end."""
        staging = cls()
        try:
            yield staging
        finally:
            staging._discard()

    def folder(self, base: Path, *, beside: bool = False) -> Path:
        """Returns the folder in which what will be below a base is staged.

        Args:
            base: A folder, made where it is missing.
            beside: Stage beside the base, because the base itself will be set aside.

        Raises:
            BackendUnavailableError: It cannot be written.
        """
        if base not in self._folders:
            name = f"{_PREFIX}{secrets.token_hex(6)}"
            folder = base.with_name(f".{base.name}{name}") if beside else base / name
            if not beside and not base.exists():
                self._new.append(base)
            try:
                folder.mkdir(parents=True, mode=0o700)
            except OSError as error:
                raise BackendUnavailableError(
                    f"{base} cannot be written: {error.strerror}", hint="name another folder"
                ) from error
            self._folders[base] = folder
        return self._folders[base]

    def path(self, base: Path, final: Path) -> Path:
        """Returns where a file is to be written that will be at `final`, below or at the top of a base already staged for."""
        staged = self._folders[base] / "files" / final.relative_to(base)
        staged.parent.mkdir(parents=True, exist_ok=True)
        self.adopt(final, staged)
        return staged

    def adopt(self, final: Path, staged: Path) -> None:
        """Takes on a file that was written in one of the folders; files get their places in the order in which they came."""
        self._moves[final] = staged

    def write(self, base: Path, final: Path, blocks: Iterable[bytes], *, mode: int = 0o644) -> Path:
        """Writes a staged file, and returns where it is."""
        staged = self.path(base, final)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            for block in blocks:
                file.write(block)
        return staged

    def set_aside(self, path: Path, aside: Path) -> None:
        """Has something moved out of the way before the files get their places."""
        self._asides.append((path, aside))

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Puts the files into place; takes them back if anything is raised inside.

        Raises:
            RefusedError: Another file is where one would be.
        """
        os.sync()
        undo: list[tuple[Path, Path]] = []
        made: list[Path] = []
        try:
            for path, aside in self._asides:
                _rename(path, aside, undo)
            for final, staged in self._moves.items():
                if _is_free(final, staged):
                    _make_parents(final, made)
                    _rename(staged, final, undo)
            yield
        except BaseException:
            self._take_back(undo, made)
            raise
        os.sync()

    def _take_back(self, undo: list[tuple[Path, Path]], made: list[Path]) -> None:
        """Undoes renames, the last first; folders that were made for files go before what they stand in the way of comes back."""
        placed = [(source, target) for source, target in undo if (source, target) not in self._asides]
        for source, target in reversed(placed):
            os.rename(target, source)  # noqa: PTH104 - the reverse of a rename
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        for path, aside in reversed([pair for pair in undo if pair in self._asides]):
            os.rename(aside, path)  # noqa: PTH104 - the reverse of a rename

    def _discard(self) -> None:
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        for base in self._new:
            with suppress(OSError):
                base.rmdir()  # unless something was put into it


def discard_abandoned(base: Path) -> None:
    """Removes what an earlier restore has staged in a folder and was killed over; nobody else may be restoring into it."""
    for folder in base.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _is_free(final: Path, staged: Path) -> bool:
    """Returns whether a file can be put into place; if not, because it is there already."""
    if not os.path.lexists(final):
        return True
    if final.is_symlink() or not final.is_file() or sha256_file(final) != sha256_file(staged):
        raise RefusedError(
            f"{final} is there already and is not the one in the backup", hint="move it away, or restore into another --home"
        )
    return False


def _make_parents(path: Path, made: list[Path]) -> None:
    missing = [parent for parent in path.parents if not parent.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700 if folder.name == "keys" else 0o755)
        made.append(folder)


def _rename(source: Path, target: Path, undo: list[tuple[Path, Path]]) -> None:
    try:
        os.rename(source, target)  # noqa: PTH104 - both on one disk
    except OSError as error:
        raise BackendUnavailableError(
            f"{source} cannot be moved to {target}: {error.strerror}", hint="move it away yourself, and restore again"
        ) from error
    undo.append((source, target))
