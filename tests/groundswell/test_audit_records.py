import zipfile
from pathlib import Path

from infra.home import Home
from infra.ledger import iter_entries
from tests.groundswell.conftest import Cli


def test_a_period_is_exported_and_recorded(cli: Cli, home: Home, tmp_path: Path) -> None:
    called = cli("--home", home.path, "--json", "audit", "export", "--since", "1", "--until", "2", "-o", tmp_path / "out.zip")
    assert called.exit_code == 0
    document = called.document
    assert (document["from"], document["to"], document["num_entries"], document["entry"]) == (1, 2, 2, 4)
    assert document["file"] == str(tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == ["entries.jsonl", "checkpoint", "public_key.pem", "SHA256SUMS"]
    assert cli("--home", home.path, "audit", "verify").exit_code == 0
    told = cli("--home", home.path, "audit", "export", "-o", tmp_path / "all.zip").stdout
    assert "0 to 4 (5)" in told


def test_a_bound_that_is_none_is_bad_input(cli: Cli, home: Home, tmp_path: Path) -> None:
    called = cli("--home", home.path, "audit", "export", "--since", "soon", "-o", tmp_path / "out.zip")
    assert called.exit_code == 3
    assert "hint: write an entry's index, a day such as" in called.stderr


def test_an_erased_name_is_shown_as_erased_everywhere(cli: Cli, home: Home) -> None:
    at = ("--home", home.path)
    made = cli(*at, "--json", "identity", "create", "Bob", "--role", "ops").document
    called = cli(*at, "--json", "audit", "erase", "--identity", "Bob", "--reason", "he asked")
    assert (called.exit_code, len(called.document["commitments"])) == (0, 1)
    listed = cli(*at, "identity", "list").stdout
    assert "Bob" not in listed
    assert "(erased)" in listed
    log = cli(*at, "audit", "log", "--action", "commitment.erased").stdout
    assert "he asked" not in log
    assert cli(*at, "audit", "verify").exit_code == 0
    again = cli(*at, "audit", "erase", "--identity", made["identity_id"], "--reason", "he asked")
    assert again.exit_code == 3
    assert "erased before" in again.stderr


def test_only_an_admin_erases(cli: Cli, home: Home) -> None:
    at = ("--home", home.path)
    cli(*at, "identity", "create", "Eve", "--role", "auditor")
    called = cli(*at, "--as", "Eve", "audit", "erase", "--identity", "Eve", "--reason", "mine")
    assert called.exit_code == 5
    assert not list(iter_entries(home.database, action="commitment.erased"))


def test_something_must_be_named_to_erase(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "audit", "erase", "--reason", "x")
    assert called.exit_code == 2
    assert "nothing to erase" in called.stderr


def test_an_anchor_shows_that_the_end_was_cut_off(cli: Cli, home: Home, tmp_path: Path) -> None:
    import sqlite3

    with home.database.unit_of_work() as uow:
        uow.append("note.made", "home", {})
    anchor = tmp_path / "anchor"
    cli("--home", home.path, "audit", "checkpoint", "-o", anchor)
    home.database.close()
    with sqlite3.connect(home.path / "groundswell.db") as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute('DELETE FROM gs_ledger_entries WHERE "index" > 3')
        connection.execute("DELETE FROM gs_ledger_nodes WHERE (position + 1) << level > 4")
        connection.execute("UPDATE gs_ledger_head SET size = 4")
        connection.execute("DELETE FROM gs_ledger_checkpoints")
    connection.close()
    assert cli("--home", home.path, "audit", "verify").exit_code == 0
    called = cli("--home", home.path, "audit", "verify", "--anchor", anchor)
    assert called.exit_code == 4
    assert "is of 5 entries, the ledger has 4: entries are gone" in called.stdout
