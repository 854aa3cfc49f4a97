"""A period of the ledger as one file that proves itself against a signed checkpoint.

The file is a zip: ``entries.jsonl`` (per line ``{"entry": "<canonical JSON>", "index": i, "proof": ["<hex>", ...]}``, the lines
of an evidence bundle), ``checkpoint``, ``public_key.pem`` and ``SHA256SUMS``. The entries are those of the period, all of them,
and after them the ``ledger.exported`` entry that says which period it is.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, select

from governance.checkpoint import verify_checkpoint
from governance.errors import BadRecordError
from governance.ledger import format_time
from infra.database import Database
from infra.keys import LOG_KEY, Keys
from infra.ledger import ProvenEntry, iter_proven, ledger_size, sign_checkpoint
from infra.tables import ledger_entries
from infra.whole_file import whole_file

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_MODE = 0o666
_MAX_INDEX = 1 << 53
_TIME = re.compile(rb'"time":"([^"]{27})"\}$')
_HINT = "write an entry's index, a day such as 2026-03-31, or a time such as 2026-03-31T12:00:00Z"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class PeriodExport:
    """A period that was exported.

    Attributes:
        file: The file.
        first: Index of the period's first entry.
        last: Index of its last.
        num_entries: How many those are.
        entry: Index of the entry that says so.
        size: Size of the tree that the checkpoint signs.
    """

    file: Path
    first: int
    last: int
    num_entries: int
    entry: int
    size: int


def export_period(
    database: Database, keys: Keys, output: Path, *, since: str | None, until: str | None, actor: str, progress: Progress
) -> PeriodExport:
    """Writes a period of the ledger, with the entry that says so and a checkpoint signed after it.

    Args:
        database: The database.
        keys: The home's keys.
        output: The file, which appears once it is whole.
        since: The first entry: an index, a day or a time, UTC; the ledger's first where None.
        until: The last one, itself or the whole day included; the ledger's last where None.
        actor: The identity that exports.
        progress: Told how many entries were written, and how many there are.

    Raises:
        BadRecordError: A bound cannot be read, or no entry is in the period.
        IntegrityError: An entry or its proof does not hold, or the ledger does not continue its last checkpoint.
        BadSettingError: The file cannot be written.
    """
    with database.read() as connection:
        first, last = _bounds(connection, since=since, until=until)
    with whole_file(output, mode=_MODE) as file, zipfile.ZipFile(file, "w", compresslevel=6) as archive:
        with database.unit_of_work() as uow:
            details = {"from": first, "to": last, "num_entries": last - first + 1}
            entry = uow.append("ledger.exported", "ledger", details, actor=actor)
        note = sign_checkpoint(database, keys)
        size = verify_checkpoint(note, keys.log_public_key()).size
        sums = {}
        with database.read() as connection:
            proven = _chained(iter_proven(connection, first, last + 1, size), iter_proven(connection, entry, entry + 1, size))
            sums["entries.jsonl"] = _add(archive, "entries.jsonl", _lines(proven, last - first + 2, progress))
        sums["checkpoint"] = _add(archive, "checkpoint", [note.encode()])
        sums["public_key.pem"] = _add(archive, "public_key.pem", [keys.public_path(LOG_KEY).read_bytes()])
        _add(archive, "SHA256SUMS", [f"{digest}  {name}\n".encode() for name, digest in sorted(sums.items())])
    return PeriodExport(file=output, first=first, last=last, num_entries=last - first + 1, entry=entry, size=size)


def _bounds(connection: Connection, *, since: str | None, until: str | None) -> tuple[int, int]:
    size = ledger_size(connection)
    first: int | str = 0 if since is None else _bound(since, end_of_day=False)
    last: int | str = size - 1 if until is None else _bound(until, end_of_day=True)
    if isinstance(first, str) or isinstance(last, str):
        first, last = _indices(connection, first, last)
    if not first <= last < size:
        raise BadRecordError(
            f"no entries from {since or 'the first'} to {until or 'the last'}: the ledger has {size:,}, numbered from 0",
            hint="`groundswell audit log` shows them",
        )
    return first, last


def _bound(text: str, *, end_of_day: bool) -> int | str:
    """Returns an index, or a time as entries write it."""
    if text.isascii() and text.isdigit() and int(text) < _MAX_INDEX:
        return int(text)
    try:
        day = date.fromisoformat(text)
        moment = datetime.fromisoformat(f"{day.isoformat()}T00:00:00+00:00")
        return format_time(moment + timedelta(days=1, microseconds=-1) if end_of_day else moment)
    except (ValueError, OverflowError):
        pass
    try:
        return format_time(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise BadRecordError(f"{text!r:.80} is neither an index nor a day nor a time with its zone", hint=_HINT) from None


def _indices(connection: Connection, since: int | str, until: int | str) -> tuple[int, int]:
    """Looks at the time of every entry, since a clock that was set back leaves them out of order: none of the period is lost."""
    columns = ledger_entries.c
    query = select(columns.index, columns.entry).order_by(columns.index)
    inside: list[int] = []
    for index, data in connection.execute(query, execution_options={"yield_per": 1000}):
        found = _TIME.search(data)
        time = found[1].decode("ascii", "replace") if found else ""
        is_begun = index >= since if isinstance(since, int) else time >= since
        if is_begun and (index <= until if isinstance(until, int) else time <= until):
            inside = [inside[0] if inside else index, index]
    return (inside[0], inside[1]) if inside else (1, 0)


def _chained(*parts: Iterable[ProvenEntry]) -> Iterator[ProvenEntry]:
    for part in parts:
        yield from part


def _lines(proven: Iterable[ProvenEntry], total: int, progress: Progress) -> Iterator[bytes]:
    for done, one in enumerate(proven, start=1):
        line = {"entry": one.data.decode(), "index": one.entry.index, "proof": [step.hex() for step in one.proof]}
        yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if done % 1000 == 0 or done == total:
            progress(done, total)


def _add(archive: zipfile.ZipFile, name: str, blocks: Iterable[bytes]) -> str:
    """Adds a file without anything that differs from one time to the next, and returns its SHA-256."""
    info = zipfile.ZipInfo(name, date_time=_LONG_AGO)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    digest = hashlib.sha256()
    with archive.open(info, "w", force_zip64=True) as member:
        for block in blocks:
            digest.update(block)
            member.write(block)
    return digest.hexdigest()
