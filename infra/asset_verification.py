"""Whether the rows of generated media say what the ledger says; there may be millions, so none is held in memory for long."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from governance.ledger import LedgerEntry
from infra.record_comparison import Described, Key, all_rows, batches, rows, stored_entries
from infra.tables import assets, ledger_entries

ACTION = "asset.generated"
_PREFIX = "media:"
_BATCH = 500
_ASSETS = Described(
    table=assets,
    noun="asset",
    columns=frozenset(
        {
            "model_name",
            "model_version",
            "root_digest",
            "seed",
            "condition_commitment",
            "file_name",
            "created",
            "pixels_sha256",
            "fingerprint",
            "watermark_id",
            "source_sha256",
        },
    ),
)
_NOT_SAID: dict[str, Any] = dict.fromkeys(("pixels_sha256", "fingerprint", "watermark_id", "source_sha256"))
"""What the row of an entry has that was written before these were kept: a row must not have more than its entry."""


class AssetChecker:
    """Compares each asset's row with its entry soon after the entry was read. An asset has one entry, which is never overruled.

    Args:
        connection: A connection in the transaction that is verified.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[Key, dict[str, Any]] = {}
        self._num_found = 0

    def note(self, entry: LedgerEntry) -> None:
        """Takes in an entry about an asset."""
        self._waiting[_key(entry)] = said_of(entry)

    def flush(self) -> Iterator[str]:
        """Compares what was taken in, and yields what is wrong with it."""
        waiting, self._waiting = self._waiting, {}
        for said in batches(waiting.items(), _BATCH):
            expected = dict(said)
            query = select(assets).where(assets.c.sha256.in_({sha256 for sha256, *_ in expected}))
            for row in rows(self._connection, query):
                values = expected.pop(_ASSETS.key(row), None)
                if values is not None:
                    self._num_found += 1
                    yield from _ASSETS.differences(row, values)
            for key in expected:
                yield f"{_ASSETS.name(key)} has an entry but no row"

    def problems(self) -> Iterator[str]:
        """Yields the rows that no entry speaks of; to be asked at the end."""
        yield from self.flush()
        if self._connection.execute(select(func.count()).select_from(assets)).scalar_one() == self._num_found:
            return
        for found in batches((_ASSETS.key(row) for row in all_rows(self._connection, assets)), _BATCH):
            known = self._keys_in_ledger(sha256 for sha256, *_ in found)
            yield from (f"{_ASSETS.name(key)} has a row but no entry" for key in found if key not in known)

    def _keys_in_ledger(self, digests: Iterable[str]) -> set[Key]:
        subjects = {f"{_PREFIX}{digest}" for digest in digests}
        columns = ledger_entries.c
        return {
            _key(entry) for entry in stored_entries(self._connection, columns.action == ACTION, columns.subject.in_(subjects))
        }


def said_of(entry: LedgerEntry) -> dict[str, Any]:
    """Returns what an entry about an asset says of the columns of its row."""
    return _ASSETS.said({**_NOT_SAID, **_model(entry.details.get("model")), **entry.details})


def differences(row: Mapping[str, Any], entry: LedgerEntry) -> list[str]:
    """Returns where the row of an asset is not what its entry says."""
    return list(_ASSETS.differences(row, said_of(entry)))


def _key(entry: LedgerEntry) -> Key:
    position = entry.details.get("position")
    return (entry.subject.removeprefix(_PREFIX), entry.run_id, position if isinstance(position, int) else None)


def _model(specifier: Any) -> dict[str, Any]:
    """Returns the columns that ``name/version`` stands for."""
    name, slash, version = str(specifier).rpartition("/")
    return {"model_name": name, "model_version": int(version)} if slash and version.isascii() and version.isdigit() else {}
