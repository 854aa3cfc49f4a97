"""`groundswell backup` and `restore` as they are called."""

import stat
import subprocess
import sys
from pathlib import Path

from infra.home import Home
from tests.groundswell.conftest import Cli

HEAVY = {"torch", "mlflow", "kfp", "pandas", "great_expectations", "s3fs", "boto3", "fsspec"}


def test_a_home_goes_into_a_file_and_comes_out_of_it(cli: Cli, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    made = cli("--home", home.path, "--json", "backup", "-o", file)
    assert (made.exit_code, made.stderr) == (0, "")
    document = made.document
    assert (document["ledger_size"], document["has_private_keys"], document["packages"]) == (4, True, [])
    assert document["size_bytes"] == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = cli("--home", tmp_path / "new", "--json", "restore", file)
    assert restored.exit_code == 0
    assert restored.document["root_hash"] == document["root_hash"]
    assert (restored.document["entry"], restored.document["replaced"]) == (4, None)
    verified = cli("--home", tmp_path / "new", "--json", "audit", "verify")
    assert (verified.exit_code, verified.document["num_entries"]) == (0, 5)
    entries = cli("--home", tmp_path / "new", "--json", "audit", "log", "--action", "ledger.restored").document["entries"]
    assert entries[0]["details"] == {
        "size": 4,
        "root_hash": document["root_hash"],
        "engine_from": "sqlite",
        "engine_to": "sqlite",
    }


def test_a_person_is_told_that_the_file_is_secret_and_what_was_restored(cli: Cli, home: Home, tmp_path: Path) -> None:
    made = cli("--home", home.path, "backup", "-o", tmp_path / "b.tar")
    assert "PRIVATE KEYS are in it" in made.stdout
    assert "public ones only" in cli("--home", home.path, "backup", "-o", tmp_path / "c.tar", "--without-keys").stdout
    restored = cli("--home", tmp_path / "new", "restore", tmp_path / "b.tar")
    assert "4 entries verify" in restored.stdout
    assert "PRIVATE KEYS" in cli("backup", "--help").stdout


def test_refusals_are_told_by_their_exit_codes(cli: Cli, home: Home, tmp_path: Path) -> None:
    file, changed, anchor = tmp_path / "b.tar", tmp_path / "changed.tar", tmp_path / "anchor"
    cli("--home", home.path, "backup", "-o", file)
    full = cli("--home", home.path, "restore", file)
    assert (full.exit_code, full.stdout) == (5, "")
    assert full.stderr.splitlines()[-2].startswith("error: database ")
    changed.write_bytes(file.read_bytes().replace(b"home.created", b"home.creatEd", 1))
    assert cli("--home", tmp_path / "new", "restore", changed).exit_code == 4
    (tmp_path / "text").write_text("no backup")
    assert cli("--home", tmp_path / "new", "restore", tmp_path / "text").exit_code == 3
    assert cli("--home", tmp_path / "new", "restore", tmp_path / "missing").exit_code == 3
    assert cli("--home", tmp_path / "new", "restore", file, "--anchor", tmp_path / "missing").exit_code == 2
    assert cli("--home", tmp_path / "nothing", "backup", "-o", file).exit_code == 3
    with home.database.unit_of_work() as uow:
        uow.append("note.made", "note:1", {})
    cli("--home", home.path, "audit", "checkpoint", "-o", anchor)
    older = cli("--home", tmp_path / "new", "restore", file, "--anchor", anchor)
    assert older.exit_code == 5
    assert "has 4 entries, an anchored checkpoint has 5" in older.stderr
    assert "--allow-older" in older.stderr
    assert not (tmp_path / "new").exists()
    told = cli("--home", tmp_path / "new", "--json", "restore", file, "--anchor", anchor, "--allow-older")
    assert (told.exit_code, told.document["anchored_size"]) == (0, 5)


def test_what_was_replaced_is_named(cli: Cli, home: Home, tmp_path: Path) -> None:
    cli("--home", home.path, "backup", "-o", tmp_path / "b.tar")
    home.database.close()
    replaced = cli("--home", home.path, "--json", "restore", tmp_path / "b.tar", "--replace").document["replaced"]
    assert cli("--home", replaced, "audit", "verify").exit_code == 0
    assert cli("--home", home.path, "audit", "verify").exit_code == 0


def test_neither_command_imports_what_is_heavy(home: Home, tmp_path: Path) -> None:
    program = (
        "import sys; from groundswell.cli.main import main; code = main(sys.argv[1:]); "
        f"sys.exit(code or sorted({HEAVY!r} & sys.modules.keys()))"
    )
    calls = (
        ("--home", home.path, "backup", "-o", tmp_path / "b.tar"),
        ("--home", tmp_path / "new", "restore", tmp_path / "b.tar"),
    )
    for call in calls:
        ended = subprocess.run(
            [sys.executable, "-c", program, *map(str, call)], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert ended.stderr.strip() in {"", "[]"}, ended.stderr
