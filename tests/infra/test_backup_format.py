"""The file of a backup, and files that are none."""

import json
import math
import tarfile
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.errors import BadRecordError, IntegrityError
from infra.backup.archive import TarReader, writing
from infra.backup.create import Backup
from infra.backup.format import SUMS, decode_value, encode_value, is_member_name
from infra.backup.rows import reflect_tables, row_lines
from infra.database import Database


def hostile(path: Path, members: Iterable[tarfile.TarInfo], tar_format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=tar_format) as tar:
        for member in members:
            tar.addfile(member)
    return path


def member(name: str, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1),
    st.text(),
    st.binary(),
    st.floats(),
    st.dates(),
    st.datetimes().map(lambda moment: moment.replace(fold=0)),
    st.decimals(allow_nan=False),
)


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside")],
        [member("keys/../../outside")],
        [member("/outside")],
        [member("keys//log.pem")],
        [member("keys/./log.pem")],
        [member("keys\\log.pem")],
        [member("keys/lo\x1bg.pem")],
        [member("outside")],
        [member("elsewhere/outside")],
        [member("keys/log.pem", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        [member("keys/log.pem", type=tarfile.LNKTYPE, linkname="backup.json")],
        [member("keys/log.pem", type=tarfile.CHRTYPE)],
        [member("keys/log.pem", type=tarfile.FIFOTYPE)],
        [member("keys", type=tarfile.DIRTYPE)],
        [member("keys/log.pem"), member("keys/log.pem")],
        [member("work/x"), member("work/x/y")],
        [member("work/x/y"), member("work/x")],
        [member("work/" + "n" * 5000)],
    ],
    ids=lambda members: ",".join(repr(m.name)[:24] + m.type.decode() for m in members),
)
def test_members_that_no_backup_holds_are_refused(tmp_path: Path, refused: Any, members: list[tarfile.TarInfo]) -> None:
    error = refused(hostile(tmp_path / "b.tar", [*members, member(SUMS)]), BadRecordError)
    assert error.exit_code == 3
    assert not (tmp_path / "outside").exists()


def test_other_archives_and_files_are_no_backups(tmp_path: Path, refused: Any, backup: Backup) -> None:
    pax = member("keys/log.pem", pax_headers={"comment": "x" * 100_000})
    refused(hostile(tmp_path / "pax.tar", [pax], tarfile.PAX_FORMAT), BadRecordError, "no plain file")
    for name, content in {"empty": b"", "text": b"no tar at all" * 100, "zeros": bytes(10240)}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, BadRecordError, "no backup")
    with tarfile.open(tmp_path / "zipped", "w:gz") as tar:
        tar.add(backup.file, "backup.json")
    refused(tmp_path / "zipped", BadRecordError, "no tar file")
    (tmp_path / "longer").write_bytes(backup.file.read_bytes() + b"more")
    refused(tmp_path / "longer", BadRecordError, "goes on after its end")
    huge = member("checkpoint", size=1 << 60).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "huge").write_bytes(huge + bytes(1024))
    refused(tmp_path / "huge", IntegrityError, "cut off")


@given(VALUES)
def test_values_survive_exactly(value: Any) -> None:
    found = decode_value(json.loads(json.dumps(encode_value(value))))
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@pytest.mark.parametrize("value", [[], {}, {"float": "1e5"}, {"base64": "a"}, {"date": "x"}, {"a": "b", "c": "d"}, {"time": 1}])
def test_other_forms_are_no_values(value: Any) -> None:
    with pytest.raises(BadRecordError):
        decode_value(value)


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, 1j])
def test_other_types_are_not_backed_up(value: Any) -> None:
    with pytest.raises(BadRecordError):
        encode_value(value)


def test_times_documents_and_numbers_of_postgresql_are_rows_too(postgres_url: str) -> None:
    columns = "a json, b timestamp, c date, d numeric, e float8, f bytea, g boolean, h bigint"
    values = (
        "'{\"b\": 1,  \"a\": [1.0]}', '2026-01-02 03:04:05.000006', '2026-01-02', 1.10, 'NaN', '\\x00ff', true, -9e18::bigint"
    )
    with Database.open(postgres_url) as database, database.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE odd ({columns})")
        connection.exec_driver_sql(f"INSERT INTO odd VALUES ({values})")
        (line,) = row_lines(connection, reflect_tables(connection)["odd"])
    row = {key: decode_value(value) for key, value in json.loads(line).items()}
    assert row["a"] == '{"b": 1,  "a": [1.0]}'
    assert (row["b"], row["c"]) == (datetime(2026, 1, 2, 3, 4, 5, 6), date(2026, 1, 2))  # noqa: DTZ001 - as stored
    assert (row["d"], row["f"], row["g"], row["h"]) == (Decimal("1.10"), b"\x00\xff", True, -9 * 10**18)
    assert math.isnan(row["e"])


@given(st.text(max_size=40))
def test_a_member_name_stays_in_its_folder(name: str) -> None:
    if is_member_name(name):
        assert (Path("/base") / name).resolve().is_relative_to("/base")


def test_long_names_and_large_members_are_read_back(tmp_path: Path) -> None:
    name = "work/" + "/".join(["ä" * 40] * 5)
    with writing(tmp_path / "b.tar") as tar:
        tar.add_blocks(name, iter([b"x" * 1000] * 3000))
        tar.add_bytes("work/empty", b"")
    with TarReader.open(tmp_path / "b.tar") as reader:
        assert reader.names == [name, "work/empty"]
        assert sum(len(block) for block in reader.blocks(name)) == 3_000_000
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == [name, "work/empty", SUMS]


def test_names_and_links_that_cannot_be_restored_are_not_backed_up(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError, match="is a link"), writing(tmp_path / "b.tar") as tar:
        tar.add_file("work/link", tmp_path / "link")
    with pytest.raises(BadRecordError, match="cannot be backed up"), writing(tmp_path / "b.tar") as tar:
        tar.add_bytes("work/a\nb", b"")
    assert not (tmp_path / "b.tar").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_backup_that_was_cut_off_is_refused(plain: Backup, tmp_path: Path, refused: Any, share: float) -> None:
    content = plain.file.read_bytes()
    (tmp_path / "b.tar").write_bytes(content[: int(len(content.rstrip(b"\0")) * share)])
    refused(tmp_path / "b.tar", IntegrityError, "cut off|damaged")
