"""Makes a backup of a home: its records, keys and models in one file, from which either database engine can be filled.

The ledger gets no entry about it: an entry would change what is backed up, so that no backup could ever be the newest state. What
a backup holds is fixed by the signed checkpoint in it.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, select

from governance.checkpoint import sign_checkpoint as sign_note
from governance.errors import IntegrityError
from governance.ledger import format_time
from governance.package_layout import SIGNATURE
from infra.backup import format as layout
from infra.backup.archive import TarWriter, writing
from infra.backup.format import Header, LedgerHead, PackageHeader, Progress
from infra.backup.rows import count_rows, read_version, reflect_tables, row_lines
from infra.database import Clock, utc_now
from infra.home import Home
from infra.key_rotation import settle_rotations
from infra.ledger import ledger_size, root_hash, sign_checkpoint
from infra.ledger_verification import verify_connection
from infra.locking import lock
from infra.objects.store import get_tree, is_remote, local_path
from infra.settings import stored_without_secrets, without_password
from infra.tables import model_versions, schema_version

MLFLOW_VERSION_TABLE = "alembic_version"
_TOLD_EVERY = 500
_LEFT = "back up without packages with --without-packages, once it is known why"


@dataclass(frozen=True, kw_only=True)
class BackupOptions:
    """What of a home goes into a backup beside its records.

    Attributes:
        with_private_keys: The private keys, without which nothing can be signed after a restore.
        with_packages: Registered packages, wherever they are.
        with_work: Datasets, codecs and outputs of work, all of which can be made anew.
    """

    with_private_keys: bool = True
    with_packages: bool = True
    with_work: bool = False


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that was made.

    Attributes:
        file: The file.
        size_bytes: Its size.
        header: What it holds.
    """

    file: Path
    size_bytes: int
    header: Header


def create_backup(
    home: Home,
    output: Path,
    *,
    version: str,
    options: BackupOptions,
    progress: Progress,
    clock: Clock = utc_now,
) -> Backup:
    """Writes a backup of one moment of a home; runs may go on meanwhile.

    Args:
        home: The home.
        output: The file, which appears once it is whole; a file of that name is replaced then.
        version: The version of groundswell.
        options: What goes into it.
        progress: Told how far it has come.
        clock: Gives the time that the backup says.

    Raises:
        IntegrityError: The ledger does not verify, so that the backup could not be restored; or a package is not what was
            registered, or gone.
        BackendUnavailableError: The database, the object store or the file's folder cannot be used.
        OSError: The disk is full.
    """
    settle_rotations(home.database, home.keys)
    sign_checkpoint(home.database, home.keys)
    with lock(home.keys.lock_path), writing(output) as tar:  # records and keys are of one moment
        maker = _Maker(home, tar, options, progress)
        with home.database.read() as connection:
            header = maker.add_records(connection, version=version, created=format_time(clock()))
        maker.add_files(header, scratch=output.parent)
    return Backup(file=output, size_bytes=output.stat().st_size, header=header)


class _Maker:
    def __init__(self, home: Home, tar: TarWriter, options: BackupOptions, progress: Progress) -> None:
        self._home = home
        self._tar = tar
        self._options = options
        self._progress = progress
        root = home.settings.artifact_root
        self._artifacts = None if is_remote(root) else local_path(root)

    def add_records(self, connection: Connection, *, version: str, created: str) -> Header:
        """Adds the database as one snapshot of it has it, after verifying the ledger in it."""
        tables = reflect_tables(connection)
        header = self._header(connection, tables, version=version, created=created)
        private_key = self._home.keys.log_private_key()
        root = bytes.fromhex(header.ledger.root_hash)
        note = sign_note(size=header.ledger.size, root_hash=root, private_key=private_key)
        self._tar.add_bytes(layout.HEADER, header.to_bytes())
        self._tar.add_bytes(layout.CHECKPOINT, note.encode())
        done, total = 0, sum(header.tables.values())
        for name, table in tables.items():
            lines = _counted(row_lines(connection, table), self._progress, done=done, total=total, name=name)
            self._tar.add_blocks(layout.table_member(name), lines)
            done += header.tables[name]
        return header

    def add_files(self, header: Header, *, scratch: Path) -> None:
        """Adds keys, packages and the other files of the home."""
        settings = stored_without_secrets(self._home.path)
        if settings:
            self._tar.add_bytes(layout.SETTINGS, settings.encode())
        for digest, package in header.packages.items():
            if package.is_included:
                self._add_package(digest, package.locations[0], scratch)
        files = list(self._files(header))
        for done, (name, path) in enumerate(files):
            self._progress(done, len(files), name)
            self._tar.add_file(name, path)

    def _header(self, connection: Connection, tables: Mapping[str, Table], *, version: str, created: str) -> Header:
        report = verify_connection(
            connection, self._home.keys.log_public_key(), lambda done, total: self._progress(done, total, "verifying the ledger")
        )
        if not report.ok:
            raise IntegrityError(
                f"the ledger does not verify, so a backup of it could not be restored: {report.problems[0]}",
                hint="`groundswell audit verify` says more; keep this home as evidence, and restore an older backup",
            )
        settings = self._home.settings
        size = ledger_size(connection)
        return Header(
            groundswell=version,
            created=created,
            engine="sqlite" if connection.dialect.name == "sqlite" else "postgresql",
            schema_revision=str(read_version(connection, schema_version.name)),
            mlflow_revision=read_version(connection, MLFLOW_VERSION_TABLE),
            home=str(self._home.path),
            artifact_root=str(self._artifacts or without_password(settings.artifact_root)),
            ledger=LedgerHead(size=size, root_hash=root_hash(connection, size).hex()),
            tables={name: count_rows(connection, table) for name, table in tables.items()},
            packages=self._packages(connection),
            has_private_keys=self._options.with_private_keys,
            has_artifacts=self._artifacts is not None,
            has_work=self._options.with_work,
        )

    def _packages(self, connection: Connection) -> dict[str, PackageHeader]:
        columns = model_versions.c
        locations: dict[str, list[str]] = {}
        query = select(columns.root_digest, columns.location).order_by(columns.name, columns.version)
        for row in connection.execute(query):
            locations.setdefault(row.root_digest, []).append(row.location)
        return {
            digest: PackageHeader(locations=tuple(dict.fromkeys(found)), is_included=self._options.with_packages)
            for digest, found in locations.items()
        }

    def _add_package(self, digest: str, location: str, scratch: Path) -> None:
        """Adds a registered package, verified while it is copied."""
        if not is_remote(location):
            self._copy_package(digest, local_path(location), shown=location)
            return
        with tempfile.TemporaryDirectory(prefix=".groundswell-package-", dir=scratch) as folder:
            fetched = Path(folder)
            shown = without_password(location)
            get_tree(location, fetched, progress=lambda done, total: self._progress(done, total, f"bytes of {shown}"))
            self._copy_package(digest, fetched, shown=shown)

    def _copy_package(self, digest: str, folder: Path, *, shown: str) -> None:
        if not folder.is_dir():
            raise IntegrityError(f"the registered package {shown} is missing", hint=_LEFT)
        found = {}
        files = list(_walk(folder))
        for done, path in enumerate(files):
            name = path.relative_to(folder).as_posix()
            self._progress(done, len(files), name)
            found[name] = self._tar.add_file(f"{layout.PACKAGES}/{digest}/{name}", path)
        found.pop(SIGNATURE, None)
        lines = (f"{found[name]}  {name}\n" for name in sorted(found))
        if hashlib.sha256("".join(lines).encode()).hexdigest() != digest:
            raise IntegrityError(f"the package in {shown} is not the one that was registered, {digest[:12]}", hint=_LEFT)

    def _files(self, header: Header) -> Iterator[tuple[str, Path]]:
        home = self._home
        keys = home.keys.folder
        folders = [keys / "public", *((keys,) if self._options.with_private_keys else ())]
        for folder in folders:
            yield from ((f"{layout.KEYS}/{path.relative_to(keys)}", path) for path in sorted(folder.glob("[a-z]*.pem")))
        yield from _below(layout.REPORTS, home.reports)
        if self._artifacts is not None:
            packages = {local_path(place) for p in header.packages.values() for place in p.locations if not is_remote(place)}
            yield from _below(layout.ARTIFACTS, self._artifacts, without=packages)
        if self._options.with_work:
            yield from _below("datasets", home.datasets)
            yield from _below("codecs", home.path / "codecs")
            for folder in sorted(home.work.glob("*/outputs")):
                yield from _below(f"work/{folder.parent.name}/outputs", folder)


def _counted(lines: Iterable[bytes], progress: Progress, *, done: int, total: int, name: str) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if number % _TOLD_EVERY == 0:
            progress(done + number, total, f"rows of {name}")
        yield line


def _below(top: str, folder: Path, *, without: Iterable[Path] = ()) -> Iterator[tuple[str, Path]]:
    for path in _walk(folder, without=frozenset(without)):
        yield f"{top}/{path.relative_to(folder).as_posix()}", path


def _walk(folder: Path, *, without: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yields whatever is below a folder and is no folder itself, sorted; what a writer under way has hidden is passed over."""
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(name for name in folders if here / name not in without and not name.startswith("."))
        links = [name for name in folders if (here / name).is_symlink()]
        files = [name for name in names if not (name.startswith(".") and name.endswith(".partial"))]
        yield from (here / name for name in sorted([*files, *links]))
