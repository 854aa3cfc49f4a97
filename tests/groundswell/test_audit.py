import sqlite3
from pathlib import Path

import pytest

from governance.checkpoint import sign_checkpoint
from infra.home import Home
from infra.settings import Settings
from tests.groundswell.conftest import Cli


def append(home: Home, count: int) -> None:
    with home.database.unit_of_work() as uow:
        for number in range(count):
            uow.append("run.completed" if number % 2 else "run.started", f"run:{number}", {"n": number})


def test_the_log_shows_the_newest_entries_oldest_first(cli: Cli, home: Home) -> None:
    append(home, 10)
    entries = cli("--home", home.path, "--json", "audit", "log", "--limit", 3).document["entries"]
    assert [entry["subject"] for entry in entries] == ["run:7", "run:8", "run:9"]
    table = cli("--home", home.path, "audit", "log", "--limit", 3).stdout.splitlines()
    assert len(table) == 4
    assert "run.completed" in table[-1]


def test_the_log_is_filtered(cli: Cli, home: Home) -> None:
    append(home, 10)
    log = ("--home", home.path, "--json", "audit", "log")
    assert [entry["subject"] for entry in cli(*log, "--action", "run.started").document["entries"]] == [
        f"run:{n}" for n in range(0, 10, 2)
    ]
    assert len(cli(*log, "--action", "run").document["entries"]) == 10
    assert [entry["details"] for entry in cli(*log, "--subject", "run:4").document["entries"]] == [{"n": 4}]
    first = cli(*log, "--action", "run", "--since", 0, "--limit", 2).document["entries"]
    assert [entry["subject"] for entry in first] == ["run:0", "run:1"]
    assert cli(*log, "--action", "nothing.here").document["entries"] == []
    assert "no such entries" in cli("--home", home.path, "audit", "log", "--subject", "x").stdout


def test_an_untouched_ledger_verifies(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "--json", "audit", "verify")
    assert called.exit_code == 0
    assert called.document["ok"]
    assert "everything verifies" in cli("--home", home.path, "audit", "verify").stdout


def test_a_flipped_byte_is_named_with_exit_code_four(cli: Cli, home: Home) -> None:
    append(home, 4)
    home.database.close()
    with sqlite3.connect(home.path / "groundswell.db") as connection:
        connection.execute("DROP TRIGGER gs_ledger_entries_no_update")
        (data,) = connection.execute('SELECT entry FROM gs_ledger_entries WHERE "index" = 4').fetchone()
        connection.execute('UPDATE gs_ledger_entries SET entry = ? WHERE "index" = 4', (bytes(data).replace(b"run:", b"rum:"),))
    connection.close()
    called = cli("--home", home.path, "audit", "verify")
    assert called.exit_code == 4
    assert "problem: entry 4" in called.stdout
    assert called.stderr.splitlines()[-2].startswith("error: the ledger does not verify: ")
    document = cli("--home", home.path, "--json", "audit", "verify").document
    assert not document["ok"]
    assert document["problems"]


def test_a_checkpoint_is_signed_printed_and_written(cli: Cli, home: Home, tmp_path: Path) -> None:
    printed = cli("--home", home.path, "audit", "checkpoint")
    assert printed.exit_code == 0
    assert printed.stdout.startswith("groundswell/")
    written = cli("--home", home.path, "--json", "audit", "checkpoint", "-o", tmp_path / "note")
    assert (tmp_path / "note").read_text(encoding="utf-8") == printed.stdout == written.document["note"]
    assert cli("--home", home.path, "--json", "audit", "verify").document["num_checkpoints"] == 1


def test_another_logs_key_does_not_verify(cli: Cli, home: Home, tmp_path: Path) -> None:
    from infra.settings import Settings

    other = Home.open(Settings.load(tmp_path / "other"))
    cli("--home", home.path, "audit", "checkpoint")
    called = cli("--home", home.path, "audit", "verify", "--key", other.keys.public_path("log"))
    assert called.exit_code == 4
    missing = cli("--home", home.path, "audit", "verify", "--key", tmp_path / "none.pem")
    assert missing.exit_code == 3


def test_a_ledger_that_was_cut_off_is_found_by_its_witness(
    cli: Cli, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no anchor" in cli("--home", home.path, "audit", "verify").stdout
    monkeypatch.setenv("GROUNDSWELL_WITNESSES", str(tmp_path / "witness"))
    assert cli("--home", home.path, "audit", "checkpoint").exit_code == 0
    (kept,) = (tmp_path / "witness").iterdir()
    verified = cli("--home", home.path, "--json", "audit", "verify")
    assert (verified.exit_code, verified.document["num_anchors"]) == (0, 1)
    assert verified.document["witnesses"][0]["newest_size"] == verified.document["num_entries"]
    other = Home.open(Settings.load(tmp_path / "other"))
    longer = sign_checkpoint(size=99, root_hash=bytes(32), private_key=home.keys.log_private_key())
    (tmp_path / "longer").write_text(longer, encoding="utf-8")
    cut = cli("--home", home.path, "audit", "verify", "--anchor", tmp_path / "longer")
    assert cut.exit_code == 4
    assert "entries are gone" in cut.stdout
    foreign = cli("--home", other.path, "audit", "verify", "--anchor", kept)
    assert foreign.exit_code == 4
    assert foreign.stderr.startswith("error: anchor ")


def test_a_witness_that_is_away_is_told_after_all_else_verified(
    cli: Cli, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("GROUNDSWELL_WITNESSES", str(tmp_path / "file" / "deeper"))
    signed = cli("--home", home.path, "audit", "checkpoint")
    assert signed.exit_code == 0
    assert signed.stderr.startswith("warning: a witness missed this checkpoint")
    monkeypatch.setenv("GROUNDSWELL_WITNESSES", "s3://bucket/anchors")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    away = cli("--home", home.path, "audit", "verify")
    assert away.exit_code == 6
    assert "everything verifies" in away.stdout
    assert away.stderr.startswith("error: all that is here verifies, but")
