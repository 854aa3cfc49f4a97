"""The datasets on record, and what is in them: a manifest is believed only while its folder has the recorded digest."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, select

from governance.digest import tree_digest
from governance.errors import IntegrityError
from infra.tables import artifacts

_MANIFEST = "manifest.parquet"


@dataclass(frozen=True, kw_only=True)
class RecordedDataset:
    """A dataset on record.

    Attributes:
        digest: Its digest.
        name: What it is called; the beginning of its digest where it has no name.
        location: Where it was when it was recorded.
        splits: The split of each of its items, by SHA-256 (see `item_splits`); None where it was not looked into, or its folder
            is gone or was changed.
    """

    digest: str
    name: str
    location: str
    splits: Mapping[str, str] | None = None

    @property
    def subject(self) -> str:
        """Its name in ledger and lineage."""
        return f"dataset:{self.digest}"


def recorded_digests(connection: Connection) -> frozenset[str]:
    """Returns the digests of all datasets on record."""
    return frozenset(connection.execute(select(artifacts.c.digest).where(artifacts.c.kind == "dataset")).scalars())


def recorded_datasets(connection: Connection, digests: Collection[str] | None = None) -> list[RecordedDataset]:
    """Returns the datasets on record, none of them looked into.

    Args:
        connection: An open connection.
        digests: Only those with these digests; all where None.
    """
    columns = artifacts.c
    query = select(columns.digest, columns.location, columns.facts).where(columns.kind == "dataset").order_by(columns.digest)
    if digests is not None:
        query = query.where(columns.digest.in_(sorted(digests)))
    return [
        RecordedDataset(digest=digest, name=json.loads(facts).get("name") or digest[:12], location=location)
        for digest, location, facts in connection.execute(query)
    ]


def look_into(dataset: RecordedDataset, *, datasets: Path, given: Path | None = None) -> RecordedDataset:
    """Finds a recorded dataset's folder and reads its manifest, once the whole folder has the recorded digest.

    Args:
        dataset: The dataset.
        datasets: The home's folder of datasets.
        given: Where it may lie, too.
    """
    found = find_folder(dataset, datasets=datasets, given=given)
    return replace(dataset, splits=item_splits(found) if found else None)


def find_folder(dataset: RecordedDataset, *, datasets: Path, given: Path | None = None) -> Path | None:
    """Returns where a recorded dataset lies, its digest verified; None where it is gone or was changed.

    Args:
        dataset: The dataset.
        datasets: The home's folder of datasets.
        given: Where it may lie, too.
    """
    places = _places(dataset.location, datasets, given)
    return next((folder for folder in places if _is(folder, dataset.digest)), None)


def item_splits(folder: Path) -> dict[str, str]:
    """Returns the split of each item of a dataset, by SHA-256: ``train``, ``holdout``, or ``train and holdout``.

    Raises:
        BadDataError: The folder's manifest is none.
    """
    from model_core.data.manifest import read_manifest

    table = read_manifest(folder / _MANIFEST)
    found: dict[str, set[str]] = {}
    for sha256, split in zip(table["sha256"].to_pylist(), table["split"].to_pylist(), strict=True):
        found.setdefault(sha256, set()).add(split)
    return {sha256: " and ".join(sorted(splits, reverse=True)) for sha256, splits in found.items()}


def _places(location: str, datasets: Path, given: Path | None) -> Iterator[Path]:
    """Yields where a dataset may lie, the likeliest first: a home that was moved or restored has it below another path."""
    likely = [given] if given else []
    likely += [Path(location), datasets / Path(location).name] if location else []
    others = sorted(datasets.iterdir()) if datasets.is_dir() else []
    yield from dict.fromkeys([*likely, *others])


def _is(folder: Path, digest: str) -> bool:
    try:
        return (folder / _MANIFEST).is_file() and tree_digest(folder) == digest
    except (OSError, IntegrityError):
        return False
