"""What is in an evidence bundle, and its bytes: the same files give the same bundle.

The order matters. Every file but three is made first; the entry ``bundle.exported`` names their digests; the checkpoint follows
that entry; the entries carry proofs against that checkpoint. So no file can be exchanged under proofs that still hold.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files as resources
from typing import IO, Any

from governance.bundle.verify import ENTRIES, MAX_BYTES, MAX_FILES, SUMS
from governance.errors import BadRecordError

EXPORTED = "bundle.exported"
LINEAGE, REPORT, VERIFIER, PUBLIC_KEY = "lineage.json", "report.html", "verify.py", "public_key.pem"
DATA_CARD = "DATA_CARD.md"
_STATEMENT_FOLDERS = {"approval": "approvals", "provenance": "attestations"}
_MOMENT = (1980, 1, 1, 0, 0, 0)


def verifier() -> bytes:
    """Returns the program that verifies a bundle and stands alone."""
    return resources("governance.bundle").joinpath(VERIFIER).read_bytes()


def statement_name(kind: str, digest: str) -> str:
    """Returns the name of a signed statement's file.

    Args:
        kind: ``approval`` or ``provenance``.
        digest: SHA-256 of the envelope.
    """
    return f"{_STATEMENT_FOLDERS[kind]}/{digest[:16]}.json"


def lineage_json(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Returns OpenLineage events as one JSON array, an event a line."""
    return ("[\n" + ",\n".join(json.dumps(event, sort_keys=True) for event in events) + "\n]\n").encode()


def exported_details(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Returns the details of the entry that fixes what a bundle holds.

    Args:
        files: Every file but checkpoint, entries and checksums, by name.

    Raises:
        BadRecordError: They are more, or larger, than a bundle may hold.
    """
    if len(files) + 3 > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise BadRecordError(
            f"the bundle would hold {len(files):,} files of {sum(map(len, files.values())):,} bytes, more than a bundle may",
            hint="export a narrower subject, such as one model version",
        )
    return {"files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}


def entry_line(index: int, entry: bytes, proof: Sequence[bytes]) -> bytes:
    """Returns a line of ``entries.jsonl``.

    Args:
        index: The entry's index.
        entry: Its canonical JSON.
        proof: Its inclusion proof, leaf to root.
    """
    line = {"index": index, "entry": entry.decode(), "proof": [sibling.hex() for sibling in proof]}
    return json.dumps(line).encode() + b"\n"


def with_checksums(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the files with ``SHA256SUMS``, which names all others."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    return {**files, SUMS: "".join(lines).encode()}


def write_zip(target: IO[bytes], files: Mapping[str, bytes]) -> None:
    """Writes a bundle, without times or anything else that is not its content."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, date_time=_MOMENT)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)


__all__ = [
    "DATA_CARD",
    "ENTRIES",
    "EXPORTED",
    "LINEAGE",
    "PUBLIC_KEY",
    "REPORT",
    "VERIFIER",
    "entry_line",
    "exported_details",
    "lineage_json",
    "statement_name",
    "verifier",
    "with_checksums",
    "write_zip",
]
