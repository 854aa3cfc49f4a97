"""Looks for a secret in everything that is left on a disk."""

import base64
import gzip
import hashlib
import json
import sqlite3
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

_OVERLAP_BYTES = 4096
_BLOCK_BYTES = 1 << 20


def forms_of(secret: str) -> dict[str, bytes]:
    """Returns the forms in which a secret may have been written down, by what they are called."""
    raw = secret.encode()
    return {
        "as it is": raw,
        "quoted for a URL": quote(secret, safe="").encode(),
        "quoted for a form": quote_plus(secret).encode(),
        "in JSON": json.dumps(secret)[1:-1].encode(),
        "in JSON with its letters": json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        "in hexadecimal": raw.hex().encode(),
        "in UTF-16": secret.encode("utf-16-le"),
        # In base64 a text looks different at each offset: the part that does not depend on its neighbours.
        **{f"in base64 at {offset}": _base64_core(raw, offset) for offset in range(3)},
    }


def assert_no_secret(folder: Path, secret: str, *, allowed: tuple[str, ...] = ()) -> None:
    """Fails if a secret is in the name or the bytes of any file below a folder, in whatever form.

    Databases are searched by their bytes, journals included, and value by value; compressed files and archives unpacked as well.

    Args:
        folder: Such as a home.
        secret: At least eight characters, so that it is not there by chance.
        allowed: Relative paths that may hold it, such as ``settings.toml``.
    """
    assert len(secret) >= 8, "a secret this short may be anywhere by chance"
    forms = forms_of(secret)
    found = []
    num_files = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found += [f"{name} (its name, {form})" for form, data in forms.items() if data in name.encode(errors="replace")]
        if not path.is_file() or path.is_symlink() or name in allowed:
            continue
        num_files += 1
        for part, blocks in _contents(path):
            found += [f"{name}{part} ({form})" for form in sorted(_search(blocks, forms))]
    assert num_files, f"there is no file in {folder} to look for a secret in"
    assert not found, f"the secret sha256:{hashlib.sha256(secret.encode()).hexdigest()[:12]} is in {', '.join(found)}"


def assert_no_secret_in_tables(url: str, secret: str) -> None:
    """Fails if a secret is in any value of any table of a database, MLflow's tables and ours.

    Args:
        url: SQLAlchemy's URL of a PostgreSQL or SQLite database.
        secret: At least eight characters.
    """
    from sqlalchemy import MetaData, create_engine, select

    forms = forms_of(secret)
    engine = create_engine(url)
    try:
        metadata = MetaData()
        metadata.reflect(engine)
        with engine.connect() as connection:
            for table in metadata.sorted_tables:
                for row in connection.execute(select(table)):
                    values = (bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row)
                    found = _search(values, forms)
                    assert not found, f"the secret is in a row of {table.name} ({', '.join(found)})"
    finally:
        engine.dispose()


def _search(blocks: Iterator[bytes], forms: dict[str, bytes]) -> set[str]:
    found: set[str] = set()
    tail = b""
    for block in blocks:
        window = tail + block
        found |= {form for form, data in forms.items() if data in window}
        tail = window[-_OVERLAP_BYTES:]
    return found


def _contents(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yields the bytes of a file, then those of what is packed into it, each with a note for the finding."""
    yield "", _blocks(path)
    with path.open("rb") as file:
        start = file.read(16)
    if start == b"SQLite format 3\0":
        yield " (rows)", _rows(path)
    if start.startswith(b"\x1f\x8b"):
        yield " (unpacked)", _unzipped(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                yield f" ({member})", iter([member.encode(), archive.read(member)])
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for entry in archive:
                data = archive.extractfile(entry)
                yield f" ({entry.name})", iter([entry.name.encode(), data.read() if data else b""])


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _unzipped(path: Path) -> Iterator[bytes]:
    with suppress(OSError, EOFError), gzip.open(path) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _rows(path: Path) -> Iterator[bytes]:
    """Yields every value of a database: one that is larger than a page lies in pieces among the file's bytes."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in connection.execute(f'SELECT * FROM "{table.decode()}"'):
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)


def _base64_core(raw: bytes, offset: int) -> bytes:
    """Returns the characters that a text has in base64 wherever it begins at this offset, modulo three."""
    start = {0: 0, 1: 2, 2: 3}[offset]
    encoded = base64.b64encode(b"\0" * offset + raw).rstrip(b"=")
    return encoded[start : len(encoded) - (1 if (offset + len(raw)) % 3 else 0)]
