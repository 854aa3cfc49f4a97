"""The files of a backup on their way to where they will be."""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath

from governance.errors import BadRecordError, IntegrityError, RefusedError
from governance.package_layout import SIGNATURE
from infra.backup import format as layout
from infra.backup.archive import TarReader
from infra.backup.format import Header, Progress
from infra.backup.restored_files import Staging
from infra.backup.restored_rows import Locations
from infra.backup.target import Target
from infra.keys import LOG_KEY, PACKAGE_KEY, Keys
from infra.objects.store import is_remote, local_path, open_store

SETTINGS_NAME = "settings.from-backup.toml"
"""The settings in the backup name the old backends, so they are put beside those of the home, for a person to look at."""


def check_packages(reader: TarReader, header: Header) -> None:
    """Compares the packages in a backup with the digests under which they were registered.

    Raises:
        IntegrityError: One is another.
        BadRecordError: One is not in the header.
    """
    files: dict[str, dict[str, str]] = {digest: {} for digest, package in header.packages.items() if package.is_included}
    for name, digest, rest in _packaged(reader):
        if digest not in files:
            raise BadRecordError(f"the backup holds {name!r:.200}, which is of no package that its header names")
        if rest != SIGNATURE:
            files[digest][rest] = reader.digest(name)
    for digest, found in files.items():
        lines = "".join(f"{found[name]}  {name}\n" for name in sorted(found))
        if hashlib.sha256(lines.encode()).hexdigest() != digest:
            raise IntegrityError(
                f"package {digest[:12]} in the backup is not the one that was registered", hint="use another backup"
            )


class MemberFiles:
    """Stages a backup's files.

    Args:
        reader: The backup.
        header: Its header.
        target: Where it is restored to.
        locations: Where things will be.
        staging: Where files are staged.
        replaces: Whether the home's folder will be set aside.
    """

    def __init__(
        self, reader: TarReader, header: Header, target: Target, locations: Locations, staging: Staging, *, replaces: bool
    ) -> None:
        self._reader = reader
        self._header = header
        self._home = target.settings.home
        self._root = target.settings.artifact_root.rstrip("/")
        self._locations = locations
        self._staging = staging
        self._replaces = replaces
        self._folder = staging.folder(self._home, beside=replaces)
        self._uploads: dict[str, dict[str, Path]] = {}
        self.public: dict[str, bytes] = {}
        self.private: dict[str, Path] = {}

    def stage(self, progress: Progress) -> None:
        """Stages every file.

        Raises:
            IntegrityError: The backup has changed since it was verified.
            BackendUnavailableError: A folder cannot be written.
            OSError: The disk is full.
        """
        names = [name for name in self._reader.names if "/" in name and not name.startswith(f"{layout.DATABASE}/")]
        for done, name in enumerate(names):
            progress(done, len(names), name)
            top, _, rest = name.partition("/")
            if top == layout.KEYS:
                self._stage_key(name)
            elif top == layout.ARTIFACTS:
                self._stage_below(self._root, rest, name)
            elif top == layout.PACKAGES:
                self._stage_package_file(name)
            else:
                self._stage_file(self._home / name, name)
        if layout.SETTINGS in self._reader:
            self._stage_file(self._home / SETTINGS_NAME, layout.SETTINGS)

    def keep_keys(self) -> None:
        """Takes over the keys that are in the target and not in the backup.

        Raises:
            RefusedError: Neither has the private keys without which a home does not work.
        """
        keys = Keys(self._home / "keys")
        for path in sorted(keys.folder.glob("[a-z]*.pem")):
            if path.stem not in self.private:
                self.private[path.stem] = path
                self._keep(path, 0o600)
        for path in sorted((keys.folder / "public").glob("[a-z]*.pem")):
            if path.stem not in self.public:
                self._keep(path, 0o644)
        if not {LOG_KEY, PACKAGE_KEY} <= self.private.keys():
            raise RefusedError(
                f"the backup holds no private keys, and {keys.folder} does not either",
                hint=f"put {LOG_KEY}.pem and {PACKAGE_KEY}.pem there (chmod 600) and restore again",
            )

    def set_aside(self, target: Target, moment: datetime) -> Path:
        """Has the target's home, and its database where that is elsewhere, moved out of the way; its settings stay in force.

        Returns:
            Where the home will be.
        """
        mark = f".replaced-{moment:%Y%m%dT%H%M%SZ}"
        aside = self._home.with_name(f"{self._home.name}{mark}")
        settings = self._home / "settings.toml"
        if settings.is_file():
            self._keep(settings, 0o600)
        if self._home.exists():
            self._staging.set_aside(self._home, aside)
        file = target.database_file
        if not file.is_relative_to(self._home):
            for path in (file, *(file.with_name(f"{file.name}-{part}") for part in ("wal", "shm"))):
                if path.exists():
                    self._staging.set_aside(path, path.with_name(f"{path.name}{mark}"))
        return aside

    def upload(self, progress: Progress) -> None:
        """Stores what will be in an object store, and verifies it there.

        Raises:
            BackendUnavailableError: The store cannot be used.
        """
        for location, files in self._uploads.items():
            open_store(location).put(files, lambda done, total: progress(done, total, "bytes to the artifact store"))

    def _stage_key(self, name: str) -> None:
        path = PurePosixPath(name)
        is_public = path.parent.name == "public"
        keys = Keys(self._home / "keys")
        final = keys.public_path(path.stem) if is_public else keys.private_path(path.stem)
        if PurePosixPath(layout.KEYS) / final.relative_to(keys.folder).as_posix() != path:
            raise BadRecordError(f"the backup holds {name!r:.200}, which is no key", hint="nothing was restored")
        if is_public:
            self.public[path.stem] = self._reader.read(name)
            self._stage_file(final, name)
        else:
            self.private[path.stem] = self._staging.write(self._home, final, self._reader.blocks(name), mode=0o600)

    def _stage_package_file(self, name: str) -> None:
        _, digest, rest = name.split("/", 2)
        for location in self._header.packages[digest].locations:
            self._stage_below(self._locations.of_package(digest, location), rest, name)

    def _stage_below(self, location: str, rest: str, name: str) -> None:
        """Stages a file for below a location, which may be in an object store."""
        if not is_remote(location):
            self._stage_file(local_path(location) / rest, name)
            return
        parent, _, last = f"{location}/{rest}".rpartition("/")
        files = self._uploads.setdefault(parent, {})
        staged = self._folder / "upload" / str(len(self._uploads)) / last
        files[last] = staged
        staged.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.writelines(self._reader.blocks(name))

    def _stage_file(self, final: Path, name: str) -> None:
        self._staging.write(self._base(final), final, self._reader.blocks(name))

    def _base(self, final: Path) -> Path:
        """Returns the folder below which a file is staged for: the home, or the folder of artifacts elsewhere."""
        if final.is_relative_to(self._home):
            return self._home
        base = local_path(self._root)
        if not final.is_relative_to(base):
            raise BadRecordError(f"the backup would be restored to {final}, outside the home", hint="nothing was restored")
        self._staging.folder(base)
        return base

    def _keep(self, path: Path, mode: int) -> None:
        if self._replaces:
            self._staging.write(self._home, path, _blocks(path), mode=mode)


def _packaged(reader: TarReader) -> Iterator[tuple[str, str, str]]:
    for name in reader.names:
        if name.startswith(f"{layout.PACKAGES}/"):
            digest, _, rest = name.partition("/")[2].partition("/")
            yield name, digest, rest


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")
