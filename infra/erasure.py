"""Erasure: what the ledger only commits to is deleted, and an entry says so. Every entry stays as it is and verifies."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, delete, select

from governance.errors import BadRecordError, UnknownSubjectError
from governance.identity import Role, require_role
from governance.ledger import parse_entry
from infra.commitment_verification import ERASED, commitments_of
from infra.database import Database, UnitOfWork
from infra.erased_pages import remove_pages, shown_texts
from infra.identities import get_identity
from infra.record_comparison import batches
from infra.runs import get_run
from infra.tables import commitments, ledger_entries

_PER_ENTRY = 500
_MAX_REASON = 2000


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was erased.

    Attributes:
        commitments: The commitments whose texts are gone.
        reason_commitment: Stands for the reason in the ledger.
        entries: Indices of the entries that say so.
        pages: Reports that showed one of the texts, and were removed.
    """

    commitments: tuple[str, ...]
    reason_commitment: str
    entries: tuple[int, ...]
    pages: tuple[Path, ...] = ()


def commitments_of_identity(database: Database, identity_id: str) -> tuple[str, ...]:
    """Returns the commitment to an identity's name.

    Raises:
        UnknownSubjectError: There is no such identity.
    """
    with database.read() as connection:
        return (get_identity(connection, identity_id).name_commitment,)


def commitments_of_run(database: Database, run_id: str) -> tuple[str, ...]:
    """Returns the commitments in a run's entries: what was asked for, reasons.

    Raises:
        UnknownSubjectError: There is no such run, or its entries commit to nothing.
        IntegrityError: An entry is malformed.
    """
    with database.read() as connection:
        run_id = get_run(connection, run_id).run_id
        columns = ledger_entries.c
        query = select(columns.entry).where(columns.run_id == run_id).order_by(columns.index)
        found = [one for (data,) in connection.execute(query) for one in commitments_of(parse_entry(bytes(data)))]
    if not found:
        raise UnknownSubjectError(f"the entries of run {run_id} commit to no text", hint="there is nothing to erase")
    return tuple(dict.fromkeys(found))


def erase(
    database: Database,
    wanted: Collection[str],
    *,
    reason: str,
    actor: str,
    must_all_be_kept: bool = False,
    reports: Path | None = None,
) -> Erasure:
    """Deletes the texts and salts of commitments; those of them that are gone already are passed over.

    Copies elsewhere, such as backups that were made before, are not reached.

    Args:
        database: The database.
        wanted: The commitments.
        reason: Why; kept as a commitment itself.
        actor: The id of the identity that erases.
        must_all_be_kept: Whether it is an error if one of them is gone already, or never was.
        reports: The folder of pages; those that show one of the texts are removed before the erasure is on record.

    Raises:
        RefusedError: The actor is no admin.
        BadRecordError: The reason is empty, too long or holds control characters.
        UnknownSubjectError: Nothing is kept for any of them, or for one that must be; or there is no such actor.
        BadSettingError: A page that shows one cannot be removed; nothing is erased then.
    """
    reason = _checked_reason(reason)
    with database.unit_of_work() as uow:
        require_role(get_identity(uow.connection, actor), {Role.ADMIN})
        kept = _kept(uow.connection, wanted)
        missing = sorted(set(wanted) - set(kept))
        if not kept or (missing and must_all_be_kept):
            raise UnknownSubjectError(
                f"no text is kept for commitment {missing[0]!r:.80}: there is no such commitment, or it was erased before",
                hint="write all 64 digits; `groundswell audit log --action commitment.erased` shows what was erased",
            )
        pages = remove_pages(reports, shown_texts(uow.connection, kept)) if reports is not None else ()
        erased = _erase(uow, kept, reason_commitment=uow.commit_to(reason), actor=actor)
    _forget_log(database)
    return replace(erased, pages=pages)


def _erase(uow: UnitOfWork, kept: list[str], *, reason_commitment: str, actor: str) -> Erasure:
    if uow.connection.dialect.name == "sqlite":
        uow.connection.exec_driver_sql("PRAGMA secure_delete = ON")  # freed pages are overwritten
    entries = []
    for batch in batches(kept, _PER_ENTRY):
        uow.connection.execute(delete(commitments).where(commitments.c.commitment.in_(batch)))
        details = {"commitments": batch, "reason_commitment": reason_commitment}
        entries.append(uow.append(ERASED, "ledger", details, actor=actor))
    return Erasure(commitments=tuple(kept), reason_commitment=reason_commitment, entries=tuple(entries))


def _kept(connection: Connection, wanted: Collection[str]) -> list[str]:
    found: set[str] = set()
    for batch in batches(dict.fromkeys(wanted), _PER_ENTRY):
        query = select(commitments.c.commitment).where(commitments.c.commitment.in_(batch))
        found.update(connection.execute(query).scalars())
    return sorted(found)


def _forget_log(database: Database) -> None:
    """Empties SQLite's write-ahead log, which holds the page as it was, as far as nobody is reading."""
    if database.engine.dialect.name == "sqlite":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > _MAX_REASON or not reason.isprintable():
        raise BadRecordError(
            "an erasure needs a reason in one line", hint=f'--reason "request of 3 May", at most {_MAX_REASON:,} characters'
        )
    return reason
