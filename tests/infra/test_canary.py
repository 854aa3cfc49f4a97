"""The search for secrets finds them: a check that cannot fail would be worth nothing."""

import base64
import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.canary import assert_no_secret, assert_no_secret_in_tables

SECRET = 'canary "se/cret" é%1'


def write_row(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (value TEXT)")
    connection.execute("INSERT INTO t VALUES (?)", ("x" * 4050 + SECRET + "y" * 9000,))
    connection.commit()
    connection.close()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", SECRET * 3)


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("a/b.txt")
        entry.size = len(SECRET.encode())
        archive.addfile(entry, io.BytesIO(SECRET.encode()))


WRITERS: dict[str, Callable[[Path], object]] = {
    "plain": lambda path: path.write_text(f"a{SECRET}b"),
    "across blocks": lambda path: path.write_bytes(b"x" * ((1 << 20) - 5) + SECRET.encode()),
    "url": lambda path: path.write_text(f"http://me:{quote(SECRET, safe='')}@host/"),
    "json": lambda path: path.write_text(json.dumps({"a": SECRET})),
    "base64": lambda path: path.write_bytes(base64.b64encode(f"user:{SECRET}!".encode())),
    "base64 at 1": lambda path: path.write_bytes(base64.b64encode(f"user{SECRET}".encode())),
    "base64 at 0": lambda path: path.write_bytes(base64.b64encode(f"users:{SECRET}..".encode())),
    "hexadecimal": lambda path: path.write_text(SECRET.encode().hex()),
    "gzip": lambda path: path.write_bytes(gzip.compress(SECRET.encode() * 2)),
    "database": write_row,
    "json with its letters": lambda path: path.write_text(json.dumps({"a": SECRET}, ensure_ascii=False)),
    "zip": write_zip,
    "tar": write_tar,
}


@pytest.mark.parametrize("form", WRITERS)
def test_secret_is_found(form: str, tmp_path: Path) -> None:
    (tmp_path / "home" / "deep").mkdir(parents=True)
    (tmp_path / "home" / "harmless.txt").write_text("nothing here")
    assert_no_secret(tmp_path / "home", SECRET)
    WRITERS[form](tmp_path / "home" / "deep" / "file")
    with pytest.raises(AssertionError, match="deep/file") as caught:
        assert_no_secret(tmp_path / "home", SECRET)
    assert SECRET not in str(caught.value)
    assert_no_secret(tmp_path / "home", SECRET, allowed=("deep/file",))


def test_secret_in_a_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "with-canary-in-it").write_text("")
    with pytest.raises(AssertionError, match="its name"):
        assert_no_secret(tmp_path, "h-canary-i")


def test_empty_folder_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no file"):
        assert_no_secret(tmp_path, SECRET)


def test_secret_in_a_table_is_found(tmp_path: Path) -> None:
    write_row(tmp_path / "x.db")
    with pytest.raises(AssertionError, match="row of t"):
        assert_no_secret_in_tables(f"sqlite:///{tmp_path / 'x.db'}", SECRET)
    assert_no_secret_in_tables(f"sqlite:///{tmp_path / 'x.db'}", "another secret")
