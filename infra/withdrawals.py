"""Withdrawn items: recorded with their ledger entries, and looked up where data is imported or learned from."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, insert, select

from governance.errors import BadRecordError, UnknownSubjectError
from governance.ledger import SYSTEM
from governance.withdrawal import (
    ACTION,
    UNKNOWN_SPLIT,
    Withdrawal,
    check_withdraw,
    checked_reason,
    entry_details,
    parse_items,
    require_known,
    require_none_withdrawn,
)
from infra.database import Database, UnitOfWork
from infra.identities import get_identity
from infra.recorded_datasets import RecordedDataset, item_splits, look_into, recorded_datasets, recorded_digests
from infra.tables import commitments, withdrawals

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class WithdrawnFrom:
    """What a withdrawal took from one dataset.

    Attributes:
        dataset: The dataset's digest.
        name: What it is called.
        splits: The split of each item that was withdrawn from it now, by SHA-256; ``unknown`` where its folder is gone.
        entries: The indices of the ledger's entries about it.
    """

    dataset: str
    name: str
    splits: Mapping[str, str]
    entries: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WithdrawalOutcome:
    """What a withdrawal has come to.

    Attributes:
        named: What it took from the dataset that was named; nothing where all was withdrawn before.
        earlier: When each item that was withdrawn from that dataset before was.
        others: What it took from other datasets that hold the same bytes.
        unseen: Datasets on record whose folder is gone or was changed, so that nobody knows whether they hold the items.
        datasets: The digests of all datasets that one of the items is withdrawn from, now or since earlier.
    """

    named: WithdrawnFrom
    earlier: Mapping[str, str]
    others: tuple[WithdrawnFrom, ...]
    unseen: tuple[RecordedDataset, ...]
    datasets: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class WithdrawalRequest:
    """What is asked for.

    Attributes:
        dataset: The subject string of a dataset on record.
        items: SHA-256s, in hexadecimal.
        reason: Why, in words.
        folder: Where the dataset may lie, besides its recorded place.
        without_manifest: Whether to go on where the dataset's folder is gone, and nothing shows that it holds the items.
    """

    dataset: str
    items: Iterable[str]
    reason: str
    folder: Path | None = None
    without_manifest: bool = False


def withdraw(
    db: Database, request: WithdrawalRequest, *, actor: str, datasets: Path, progress: Progress = lambda *_: None
) -> WithdrawalOutcome:
    """Withdraws items from a dataset, and from every other on record that holds the same bytes, in one unit of work.

    Args:
        db: The database.
        request: What is asked for.
        actor: The id of the identity that withdraws.
        datasets: The home's folder of datasets.
        progress: Called with datasets looked into, datasets in all, and what is being done.

    Raises:
        RefusedError: The actor may not withdraw.
        BadRecordError: An item or the reason is malformed, the subject is no dataset, the dataset does not hold an item, or its
            folder is gone or was changed.
        UnknownSubjectError: There is no such dataset on record.
    """
    items, reason = parse_items(request.items), checked_reason(request.reason)
    kind, _, digest = request.dataset.partition(":")
    if kind != "dataset":
        raise BadRecordError(f"{request.dataset:.200} is no dataset", hint="name the folder or the digest of a dataset on record")
    with db.read() as connection:
        check_withdraw(get_identity(connection, actor))
    seen: dict[str, RecordedDataset] = {}
    while True:  # a dataset that is recorded meanwhile is looked into, too; one recorded later finds the rows written here
        _look_into_all(db, seen, datasets, folders={digest: request.folder}, progress=progress)
        if digest not in seen:
            raise UnknownSubjectError(f"no dataset {digest:.64} is on record", hint="`groundswell data import` records one")
        _check_named(seen[digest], items, without_manifest=request.without_manifest)
        with db.unit_of_work() as uow:
            check_withdraw(get_identity(uow.connection, actor))
            if recorded_digests(uow.connection) <= seen.keys():
                return _write(uow, seen, digest, items, reason=reason, actor=actor)


def extend_withdrawals(uow: UnitOfWork, digest: str, items: Collection[str]) -> int:
    """Withdraws from a dataset that is being recorded what was withdrawn from others before.

    Args:
        uow: The unit of work in which it is recorded.
        digest: The dataset's digest.
        items: What it holds.

    Returns:
        How many of its items are withdrawn.
    """
    columns = withdrawals.c
    query = select(columns.item, func.min(columns.reason_commitment)).group_by(columns.item)
    by_reason: dict[str, list[str]] = {}
    for item, reason_commitment in uow.connection.execute(query):
        if item in items:
            by_reason.setdefault(reason_commitment, []).append(item)
    for reason_commitment, found in sorted(by_reason.items()):
        _record(uow, digest, sorted(found), reason_commitment=reason_commitment, has_manifest=True, actor=SYSTEM)
    return sum(map(len, by_reason.values()))


def withdrawn_items(connection: Connection) -> frozenset[str]:
    """Returns the SHA-256 of every item that was withdrawn from any dataset."""
    return frozenset(connection.execute(select(withdrawals.c.item).distinct()).scalars())


def require_nothing_withdrawn(db: Database, folder: Path) -> None:
    """Refuses a dataset that holds withdrawn items, as something is to be learned from it.

    Args:
        db: The database.
        folder: The dataset's folder.

    Raises:
        RefusedError: It holds some.
        BadDataError: The folder's manifest is none.
    """
    with db.read() as connection:
        withdrawn = withdrawn_items(connection)
    if withdrawn:
        require_none_withdrawn(item_splits(folder), withdrawn, f"the dataset {folder}")


def when_withdrawn(connection: Connection, items: Collection[str]) -> dict[str, tuple[str, str | None]]:
    """Returns, for those of some items that were withdrawn, when they first were, and why; None where that was erased."""
    columns = withdrawals.c
    query = (
        select(columns.item, columns.created, commitments.c.value)
        .select_from(withdrawals.outerjoin(commitments, columns.reason_commitment == commitments.c.commitment))
        .order_by(columns.created.desc())
    )
    return {item: (created, reason) for item, created, reason in connection.execute(query) if item in items}


def withdrawals_from(connection: Connection, datasets: Collection[str]) -> list[Withdrawal]:
    """Returns what was withdrawn from some datasets, oldest first.

    Args:
        connection: An open connection.
        datasets: The datasets' digests.
    """
    columns = withdrawals.c
    query = (
        select(columns.dataset, columns.created, columns.actor, func.count(), commitments.c.value)
        .select_from(withdrawals.outerjoin(commitments, columns.reason_commitment == commitments.c.commitment))
        .group_by(columns.dataset, columns.created, columns.actor, columns.reason_commitment, commitments.c.value)
        .order_by(columns.created, columns.dataset, columns.reason_commitment)
    )
    return [
        Withdrawal(dataset=dataset, created=created, actor=actor, num_items=num_items, reason=reason)
        for dataset, created, actor, num_items, reason in connection.execute(query)
        if dataset in datasets
    ]


def _look_into_all(
    db: Database, seen: dict[str, RecordedDataset], datasets: Path, *, folders: Mapping[str, Path | None], progress: Progress
) -> None:
    """Looks into the datasets on record that have not been looked into."""
    with db.read() as connection:
        todo = [dataset for dataset in recorded_datasets(connection) if dataset.digest not in seen]
    for number, dataset in enumerate(todo):
        progress(number, len(todo), "reading manifests")
        seen[dataset.digest] = look_into(dataset, datasets=datasets, given=folders.get(dataset.digest))


def _check_named(dataset: RecordedDataset, items: Sequence[str], *, without_manifest: bool) -> None:
    if dataset.splits is not None:
        require_known(items, dataset.splits, f"the dataset {dataset.name} ({dataset.digest[:12]})")
    elif not without_manifest:
        raise BadRecordError(
            f"the folder of the dataset {dataset.name} ({dataset.digest[:12]}) is gone or changed: nothing shows what it held",
            hint="name its folder, if it lies elsewhere; or withdraw all the same with --without-manifest, and the entry says so",
        )


def _write(
    uow: UnitOfWork, seen: Mapping[str, RecordedDataset], named: str, items: Sequence[str], *, reason: str, actor: str
) -> WithdrawalOutcome:
    wanted = set(items)
    earlier: dict[str, dict[str, str]] = {}
    columns = withdrawals.c
    for dataset, item, created in uow.connection.execute(select(columns.dataset, columns.item, columns.created)):
        if item in wanted:
            earlier.setdefault(dataset, {})[item] = created
    taken: dict[str, WithdrawnFrom] = {}
    reason_commitment = ""
    for digest in (named, *sorted(seen.keys() - {named})):
        dataset = seen[digest]
        splits = dict.fromkeys(items, UNKNOWN_SPLIT) if dataset.splits is None and digest == named else dataset.splits or {}
        found = {item: splits[item] for item in items if item in splits and item not in earlier.get(digest, {})}
        entries: tuple[int, ...] = ()
        if found:
            reason_commitment = reason_commitment or uow.commit_to(reason)
            has_manifest = dataset.splits is not None
            entries = _record(
                uow, digest, list(found), reason_commitment=reason_commitment, has_manifest=has_manifest, actor=actor
            )
        taken[digest] = WithdrawnFrom(dataset=digest, name=dataset.name, splits=found, entries=entries)
    own = taken.pop(named)
    return WithdrawalOutcome(
        named=own,
        earlier=earlier.get(named, {}),
        others=tuple(other for other in taken.values() if other.splits),
        unseen=tuple(
            dataset
            for digest, dataset in seen.items()
            if dataset.splits is None and digest != named and wanted - earlier.get(digest, {}).keys()
        ),
        datasets=frozenset({named, *earlier, *(digest for digest, part in taken.items() if part.splits)}),
    )


def _record(
    uow: UnitOfWork, digest: str, items: Sequence[str], *, reason_commitment: str, has_manifest: bool, actor: str
) -> tuple[int, ...]:
    rows = [
        {"dataset": digest, "item": item, "reason_commitment": reason_commitment, "actor": actor, "created": uow.time}
        for item in items
    ]
    uow.connection.execute(insert(withdrawals), rows)
    return tuple(
        uow.append(ACTION, f"dataset:{digest}", details, actor=actor)
        for details in entry_details(items, created=uow.time, reason_commitment=reason_commitment, has_manifest=has_manifest)
    )
