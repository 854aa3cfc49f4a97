"""What a generated file was made from, where it was made from another file."""

from dataclasses import dataclass

from governance.credentials.verdict import Origin
from governance.errors import IntegrityError
from infra.content_records import ContentRecords


@dataclass(frozen=True, kw_only=True)
class Source:
    """The file that another was made from.

    Attributes:
        sha256: SHA-256 of its bytes.
        origin: Where it came from, where it was made here; None otherwise.
        says: What it is, in words.
    """

    sha256: str
    origin: Origin | None
    says: str


def source_of(origin: Origin, records: ContentRecords | None) -> Source | None:
    """Returns what a file was made from; None where a model made it from nothing.

    Args:
        origin: Where the file came from.
        records: What the home knows; None where there is no home to ask.
    """
    sha256 = origin.source_sha256
    if sha256 is None:
        return None
    if records is None:
        return Source(sha256=sha256, origin=None, says="of which no home was asked")
    try:
        found = records.by_digest(sha256)
    except IntegrityError as error:
        return Source(sha256=sha256, origin=None, says=f"made here, and the record does not hold: {error.diagnosis}")
    if not found:
        return Source(sha256=sha256, origin=None, says="of unknown origin")
    return Source(sha256=sha256, origin=found[0], says=f"made here by model {found[0].model} in run {found[0].run_id}")
