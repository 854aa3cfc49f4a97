"""Generated files on record: found by their bytes, their pixels, their looks, or by what a manifest says; each proven.

A row counts only as far as its ledger entry says the same, and the entry only if the newest signed checkpoint covers it.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, select

from governance.credentials.claim import PromotedBy
from governance.credentials.fingerprint import MAX_DISTANCE, distance, parse_fingerprint
from governance.credentials.verdict import Candidate, Origin
from governance.errors import GovernanceError, IntegrityError, UnknownSubjectError
from governance.ledger import LedgerEntry
from infra.asset_verification import ACTION, differences
from infra.ledger import prove_entries
from infra.lineage import upstream
from infra.promotion.records import approvals_of, find_promotion, people_in
from infra.record_comparison import rows, stored_entries
from infra.signed_head import HINT, signed_size
from infra.tables import assets, ledger_entries

if TYPE_CHECKING:
    from infra.home import Home

_MAX_FOUND = 20
_MAX_CANDIDATES = 5


class UnsignedRecordError(IntegrityError):
    """A file is on record, and no signed checkpoint covers the record yet."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who approved: an id, and the name where it was not erased."""

    identity_id: str
    name: str | None


class ContentRecords:
    """What a home knows of generated files, for as long as one transaction is open.

    Args:
        connection: An open connection.
        home: The home, for its keys.
    """

    def __init__(self, connection: Connection, home: "Home") -> None:
        self._connection = connection
        self._keys = home.keys

    def by_digest(self, sha256: str) -> list[Origin]:
        """Returns the files that had these bytes, oldest first.

        Raises:
            IntegrityError: One is on record, and the record does not hold; an `UnsignedRecordError` where that may yet come.
        """
        return self._proven(assets.c.sha256 == sha256)

    def by_pixels(self, pixels_sha256: str) -> list[Origin]:
        """Returns the files that had these pixels, oldest first, 20 at most.

        Raises:
            IntegrityError: One is on record, and the record does not hold.
        """
        return self._proven(assets.c.pixels_sha256 == pixels_sha256)

    def by_watermark(self, watermark_id: str) -> list[Origin]:
        """Returns the files whose pixels were given this id, oldest first, 20 at most.

        Raises:
            IntegrityError: One is on record, and the record does not hold.
        """
        return self._proven(assets.c.watermark_id == watermark_id)

    def by_place(self, run_id: str, position: int) -> list[Origin]:
        """Returns the file of a run at a position, in a list of one or none.

        Raises:
            IntegrityError: It is on record, and the record does not hold.
        """
        columns = ledger_entries.c
        for entry in stored_entries(self._connection, columns.run_id == run_id, columns.action == ACTION):
            if entry.details.get("position") == position:
                return self._proven(assets.c.sha256 == entry.subject.partition(":")[2], assets.c.run_id == run_id)
        return []

    def looking_like(self, fingerprint: str) -> list[Candidate]:
        """Returns up to five files that look alike, nearest first; every fingerprint is compared."""
        wanted = parse_fingerprint(fingerprint)
        found = heapq.nsmallest(_MAX_CANDIDATES, self._distances(wanted), key=lambda one: (one[0], one[1]["created"]))
        return [Candidate(origin=_origin(row, None), distance=bits) for bits, row in found]

    def _distances(self, wanted: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for row in rows(self._connection, select(assets).where(assets.c.fingerprint.is_not(None))):
            bits = distance(wanted, parse_fingerprint(row["fingerprint"]))
            if bits is not None and bits <= MAX_DISTANCE:
                yield bits, row

    def approvers(self, promotion: PromotedBy) -> list[Person]:
        """Returns who approved a request, each approval verified with its approver's key; ids alone where that is not here."""
        people = people_in(self._connection)
        try:
            request = find_promotion(self._connection, promotion.promotion_id)
            ids = [given.approver.identity_id for given in approvals_of(self._connection, request, people)]
        except UnknownSubjectError:
            ids = list(promotion.approvers)
        return [Person(identity_id=one, name=people[one].name if one in people else None) for one in ids]

    def datasets(self, root_digest: str) -> list[str]:
        """Returns the digests of the datasets that a package goes back to."""
        nodes = upstream(self._connection, f"package:{root_digest}").nodes
        return sorted(node.partition(":")[2] for node in nodes if node.startswith("dataset:"))

    @cached_property
    def _signed_size(self) -> int:
        return signed_size(self._connection, self._keys) or 0

    def _proven(self, *conditions: ColumnElement[bool]) -> list[Origin]:
        query = select(assets).where(*conditions).order_by(assets.c.created, assets.c.run_id, assets.c.position).limit(_MAX_FOUND)
        return [self._origin(row) for row in rows(self._connection, query)]

    def _origin(self, row: Mapping[str, Any]) -> Origin:
        entry = self._entry(row)
        for problem in differences(row, entry):
            raise IntegrityError(problem, hint=HINT)
        if entry.index >= self._signed_size:
            raise UnsignedRecordError(
                f"entry {entry.index} speaks of the file, and no signed checkpoint covers it yet",
                hint="`groundswell audit verify` says whether the ledger holds, `groundswell audit checkpoint` signs it",
            )
        prove_entries(self._connection, [entry.index], self._signed_size)
        return _origin(row, self._promotions(entry))

    def _entry(self, row: Mapping[str, Any]) -> LedgerEntry:
        columns = ledger_entries.c
        subject, run_id = f"media:{row['sha256']}", row["run_id"]
        found = stored_entries(self._connection, columns.subject == subject, columns.action == ACTION, columns.run_id == run_id)
        for entry in found:
            if entry.details.get("position") == row["position"]:
                return entry
        raise IntegrityError(f"asset {row['sha256']:.16} has a row but no entry", hint=HINT)

    def _promotions(self, entry: LedgerEntry) -> tuple[PromotedBy, ...] | None:
        named = entry.details.get("promotions")
        if not isinstance(named, list):
            return None
        found = []
        for promotion_id in map(str, named):
            try:
                request = find_promotion(self._connection, promotion_id)
            except GovernanceError as error:
                raise IntegrityError(f"the file's entry names request {promotion_id:.40}, which is gone", hint=HINT) from error
            found.append(
                PromotedBy(environment=request.environment, promotion_id=promotion_id, approvers=tuple(request.approvers))
            )
        return tuple(found)


def _origin(row: Mapping[str, Any], promotions: tuple[PromotedBy, ...] | None) -> Origin:
    return Origin(
        run_id=row["run_id"],
        position=row["position"],
        model_name=row["model_name"],
        model_version=row["model_version"],
        root_digest=row["root_digest"],
        sha256=row["sha256"],
        fingerprint=row["fingerprint"] or "",
        file_name=row["file_name"],
        created=row["created"],
        promotions=promotions,
        source_sha256=row["source_sha256"],
    )
