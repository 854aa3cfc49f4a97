"""Restores a backup into an empty home and database, of either engine.

Nothing is believed and nothing is written for good before it was verified: the file and the checkpoint in it first, then, in the
transaction that fills the database, the ledger and every row that it speaks of. The files get their places just before that
transaction commits, or just after where the database is a file that gets its place too; what fails takes everything back.
Tables without rows may be left in a PostgreSQL database.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, select, text
from sqlalchemy.engine import URL

from governance.checkpoint import Checkpoint, verify_checkpoint
from governance.errors import BadRecordError, IntegrityError, RefusedError, UnknownSubjectError
from governance.ledger import SYSTEM
from governance.log_keys import LogKeys
from infra.anchors import Anchor, check_not_older, check_same_history, read_anchors, verified_anchor
from infra.backup import format as layout
from infra.backup.archive import TarReader
from infra.backup.format import Header, Progress, parse_header
from infra.backup.members import MemberFiles, check_packages
from infra.backup.restored_files import Staging, discard_abandoned
from infra.backup.restored_keys import check_keys, log_in_backup
from infra.backup.restored_rows import Locations, load_rows
from infra.backup.target import Target, filled_table, look_at_target
from infra.database import Clock, Database, UnitOfWork, utc_now
from infra.errors import BackendUnavailableError, HomeBusyError
from infra.identities import find_identity_in
from infra.ledger_verification import verify_connection
from infra.locking import try_lock
from infra.mlflow_client import initialise_mlflow, schema_head
from infra.promotion.guards import missing_guards, place_guards
from infra.schema import HEAD
from infra.settings import Settings
from infra.tables import identities
from infra.witnesses import ask

_NOTHING = "nothing was restored"


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How a backup is restored.

    Attributes:
        anchors: Files with signed checkpoints, and folders of them, beside what the settings' witnesses keep.
        key: The log's public key, from a place that whoever made the backup cannot write.
        allow_older: Restore a ledger that is older than an anchor.
        replace: Set aside what is there.
        identity: Who restores, by id or name; the restored home's first identity where None.
    """

    anchors: tuple[Path, ...] = ()
    key: Path | None = None
    allow_older: bool = False
    replace: bool = False
    identity: str | None = None


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A home that was restored.

    Attributes:
        header: What the backup said of itself.
        log: The name of the log's key.
        database: The database as errors name it.
        engine: ``sqlite`` or ``postgresql``.
        entry: Index of the ledger's entry about it.
        num_anchors: Number of anchors that it was compared with.
        older_than: The newest anchor beyond the backup's end, if it was restored all the same.
        replaced: Where the home that was there is now, if there was one.
    """

    header: Header
    log: str
    database: str
    engine: str
    entry: int
    num_anchors: int
    older_than: Anchor | None
    replaced: Path | None


def restore_backup(
    settings: Settings, file: Path, *, options: RestoreOptions, progress: Progress, clock: Clock = utc_now
) -> Restored:
    """Restores a backup.

    Args:
        settings: The home and database to restore into.
        file: The backup.
        options: How.
        progress: Told how far it has come.
        clock: Gives the time.

    Raises:
        BadRecordError: The file is no backup, or one that cannot be restored here.
        IntegrityError: Something in it was tampered with or damaged; or it is another history than an anchor's.
        RefusedError: There is something already, or the backup is older than an anchor.
        BackendUnavailableError: A database, store or folder cannot be used.
        HomeBusyError: A pipeline is running in the home.
    """
    settings.export()
    with TarReader.open(file) as reader:
        total = reader.size_bytes
        reader.verify(lambda done: progress(done, total, "verifying the file"))
        header = parse_header(reader.read(layout.HEADER))
        log = log_in_backup(reader, settings, options.key)
        public_key = log.current.public_key
        checkpoint = _checkpoint(reader, header, public_key)
        _check_revisions(header)
        check_packages(reader, header)
        target = look_at_target(settings)
        _check_empty(target, replace=options.replace)
        anchors = [
            *read_anchors(options.anchors, log),
            *_anchors_of(target, log, options),
            *_witnessed(settings, log, options),
        ]
        older_than = check_not_older(checkpoint.size, anchors, allow_older=options.allow_older)
        restore = _Restore(reader, header, target, options, progress, clock)
        entry, replaced = restore.run(checkpoint, public_key, anchors, older_than)
    return Restored(
        header=header,
        log=log.current.name,
        database=target.database_name,
        engine=_engine_name(target),
        entry=entry,
        num_anchors=len(anchors),
        older_than=older_than,
        replaced=replaced,
    )


class _Restore:
    def __init__(
        self, reader: TarReader, header: Header, target: Target, options: RestoreOptions, progress: Progress, clock: Clock
    ) -> None:
        self._reader = reader
        self._header = header
        self._target = target
        self._options = options
        self._progress = progress
        self._clock = clock
        self._home = target.settings.home
        self._replaces = options.replace and not target.is_empty
        self._locations = Locations(header, home=str(self._home), artifact_root=target.settings.artifact_root)

    def run(
        self,
        checkpoint: Checkpoint,
        public_key: Ed25519PublicKey,
        anchors: Sequence[Anchor],
        older_than: Anchor | None,
    ) -> tuple[int, Path | None]:
        """Restores; returns the index of the ledger's entry about it, and where the home is now that was there."""
        details = self._details(checkpoint, older_than)
        with _only_one(self._home), Staging.open() as staging, ExitStack() as stack:
            files = MemberFiles(self._reader, self._header, self._target, self._locations, staging, replaces=self._replaces)
            files.stage(self._progress)
            files.keep_keys()
            replaced = files.set_aside(self._target, self._clock()) if self._replaces else None
            with self._open_database(staging) as database, database.unit_of_work() as uow:
                self._load(uow.connection, checkpoint, public_key)
                check_same_history(uow.connection, checkpoint.size, anchors)
                check_keys(uow.connection, files.public, files.private)
                entry = self._append(uow.connection, checkpoint.size, details)
                files.upload(self._progress)
                if not self._target.is_sqlite:
                    stack.enter_context(staging.placed())
            if self._target.is_sqlite:
                self._adopt_database(staging)
                stack.enter_context(staging.placed())
        return entry, replaced

    def _details(self, checkpoint: Checkpoint, older_than: Anchor | None) -> dict[str, Any]:
        details: dict[str, Any] = {
            "size": checkpoint.size,
            "root_hash": checkpoint.root_hash.hex(),
            "engine_from": self._header.engine,
            "engine_to": _engine_name(self._target),
        }
        if older_than is not None:
            details |= {"anchored_size": older_than.size, "anchored_root_hash": older_than.root_hash.hex()}
        if self._target.damage:
            details["replaced_ledger"] = "unreadable"
        return details

    def _load(self, connection: Connection, checkpoint: Checkpoint, public_key: Ed25519PublicKey) -> None:
        if name := filled_table(connection):
            raise _not_empty(self._target, name)
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # while files are stored
        load_rows(connection, self._reader, self._header, self._locations, self._progress)
        place_guards(connection, missing_guards(connection))
        report = verify_connection(
            connection, public_key, lambda done, total: self._progress(done, total, "verifying the ledger")
        )
        if not report.ok:
            raise IntegrityError(
                f"the backup does not verify: {report.problems[0]}", hint="keep it as evidence, and use another; " + _NOTHING
            )
        if (report.num_entries, report.root_hash) != (checkpoint.size, checkpoint.root_hash.hex()):
            raise IntegrityError("the ledger in the backup is not the one that its checkpoint signs", hint=_NOTHING)

    def _append(self, connection: Connection, size: int, details: dict[str, Any]) -> int:
        """Appends the entry that says where the ledger was restored, to the ledger as it is now in this transaction."""
        uow = UnitOfWork(connection, size=size, clock=self._clock, token_bytes=secrets.token_bytes)
        entry = uow.append("ledger.restored", "ledger", details, actor=_actor(connection, self._options.identity))
        uow.flush()
        return entry

    def _open_database(self, staging: Staging) -> Database:
        settings = self._target.settings
        url = settings.database_url
        if self._target.is_sqlite:
            path = self._staged_database(staging)
            path.parent.mkdir()
            url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
        database = Database.open(url, clock=self._clock)
        try:
            if self._header.mlflow_revision is not None:
                initialise_mlflow(url, settings.artifact_root)
        except BaseException:
            database.close()
            raise
        return database

    def _staged_database(self, staging: Staging) -> Path:
        file = self._target.database_file
        is_in_home = file.is_relative_to(self._home)
        folder = staging.folder(self._home, beside=self._replaces) if is_in_home else staging.folder(file.parent)
        return folder / "database" / file.name

    def _adopt_database(self, staging: Staging) -> None:
        """Has the database get its place last: with it, the home is there."""
        staged, final = self._staged_database(staging), self._target.database_file
        if not self._replaces:
            for part in ("", "-wal", "-shm"):
                empty = final.with_name(f"{final.name}{part}")
                if empty.exists():
                    staging.set_aside(empty, staged.with_name(f"empty-{empty.name}"))
        staging.adopt(final, staged)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Keeps pipelines and other restores out of a home."""
    lock = home / "locks" / "pipeline"
    with _made_again_gone(lock, home), try_lock(lock) as descriptor:
        if descriptor is None:
            raise HomeBusyError(f"a pipeline or another restore is running in {home}", hint="wait for it to end")
        discard_abandoned(home)
        yield


@contextmanager
def _made_again_gone(lock: Path, home: Path) -> Iterator[None]:
    """Removes what had to be made for a lock in a home that comes to nothing."""
    is_new = [folder for folder in (lock.parent, home) if not folder.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if lock.parent in is_new:
                lock.unlink(missing_ok=True)
            for folder in is_new:
                folder.rmdir()
        raise


def _checkpoint(reader: TarReader, header: Header, public_key: Ed25519PublicKey) -> Checkpoint:
    try:
        note = reader.read(layout.CHECKPOINT).decode()
    except UnicodeDecodeError as error:
        raise IntegrityError("the checkpoint in the backup is no text", hint=_NOTHING) from error
    checkpoint = verify_checkpoint(note, public_key)
    if (checkpoint.size, checkpoint.root_hash.hex()) != (header.ledger.size, header.ledger.root_hash):
        raise IntegrityError("the backup's header and its checkpoint are of two ledgers", hint="use another backup")
    return checkpoint


def _check_revisions(header: Header) -> None:
    if header.schema_revision != HEAD:
        raise BadRecordError(
            f"the backup's tables are of schema {header.schema_revision!r:.40}, this groundswell has {HEAD}",
            hint=f"restore it with groundswell {header.groundswell:.40}; a newer one then brings the database up to date",
        )
    if header.mlflow_revision not in {None, schema_head()}:
        raise BadRecordError(
            f"MLflow's tables in the backup are of schema {header.mlflow_revision!r:.40}, this MLflow has {schema_head()}",
            hint="install the MLflow that made them, restore, then run `mlflow db upgrade`",
        )


def _check_empty(target: Target, *, replace: bool) -> None:
    if target.is_empty:
        return
    if not replace or not target.is_sqlite:
        raise _not_empty(target, target.rows_in)
    if os.path.ismount(target.settings.home):
        raise RefusedError(
            f"{target.settings.home} is a mounted disk and cannot be set aside", hint="move its content away, and restore again"
        )


def _not_empty(target: Target, rows_in: str) -> RefusedError:
    what = f"has rows in {rows_in}" if rows_in else f"cannot be read: {target.damage}"
    hint = (
        f"--replace sets the home {target.settings.home} aside first"
        if target.is_sqlite
        else "restore into an empty database: name it in GROUNDSWELL_DATABASE_URL"
    )
    return RefusedError(f"database {target.database_name} is not empty: it {what}", hint=hint)


def _witnessed(settings: Settings, log: LogKeys, options: RestoreOptions) -> list[Anchor]:
    """Returns what the witnesses keep; one that is away could hide that the backup is too old."""
    testimonies = ask(settings.witnesses, log)
    for testimony in testimonies:
        if testimony.problem and not options.allow_older:
            raise BackendUnavailableError(testimony.problem, hint="--allow-older goes on without it")
    return [anchor for testimony in testimonies for anchor in testimony.anchors]


def _anchors_of(target: Target, log: LogKeys, options: RestoreOptions) -> list[Anchor]:
    """Returns the checkpoints of the ledger that will be replaced."""
    damage = target.damage
    found = []
    for note in target.notes:
        try:
            found.append(verified_anchor("the ledger to be replaced", note, log))
        except IntegrityError as error:
            damage = error.diagnosis
    if damage and not options.allow_older:
        raise RefusedError(
            f"how far the ledger to be replaced had come cannot be known: {damage}",
            hint="--allow-older goes on without; --anchor FILE names checkpoints that were kept elsewhere",
        )
    return found


def _actor(connection: Connection, named: str | None) -> str:
    if named is None:
        columns = identities.c
        query = select(columns.identity_id).where(columns.revoked.is_(None)).order_by(columns.created, columns.identity_id)
        return connection.execute(query.limit(1)).scalar() or SYSTEM
    try:
        identity = find_identity_in(connection, named)
    except UnknownSubjectError as error:
        raise RefusedError(error.diagnosis, hint="--as names an identity of the backup") from error
    if not identity.is_active:
        raise RefusedError(f"identity {identity.identity_id} was revoked on {identity.revoked}", hint="choose another with --as")
    return identity.identity_id


def _engine_name(target: Target) -> str:
    return "sqlite" if target.is_sqlite else "postgresql"
