import json
from pathlib import Path

import pytest

from governance.bundle.content import with_checksums, write_zip
from governance.bundle.verify import SUMS, read_bundle
from infra.home import Home
from infra.tables import artifacts
from tests.groundswell.conftest import Cli

SUBJECT = f"dataset:{'d' * 64}"


@pytest.fixture
def traced(home: Home) -> Home:
    """A home with one dataset on record."""
    with home.database.unit_of_work() as uow:
        row = {"digest": "d" * 64, "kind": "dataset", "location": "gone", "facts": json.dumps({"name": "x"}), "created": uow.time}
        uow.connection.execute(artifacts.insert().values(**row))
        uow.append("dataset.imported", SUBJECT, {})
    return home


@pytest.fixture
def exported(cli: Cli, traced: Home, tmp_path: Path) -> tuple[Path, Path]:
    """A bundle, and the log's key as somebody else has kept it."""
    bundle, key = tmp_path / "evidence.zip", tmp_path / "kept.pem"
    key.write_bytes(traced.keys.public_path("log").read_bytes())
    called = cli("--home", traced.path, "bundle", "export", "dddddddd", "-o", bundle)
    assert called.exit_code == 0, called.stderr
    assert SUBJECT in called.stdout
    return bundle, key


def test_a_bundle_verifies_where_there_is_no_home(cli: Cli, exported: tuple[Path, Path]) -> None:
    bundle, key = exported
    called = cli("--home", "nowhere", "bundle", "verify", bundle, "--key", key)
    assert (called.exit_code, called.stderr) == (0, "")
    assert "the bundle verifies" in called.stdout
    assert not Path("nowhere").exists()
    document = cli("--json", "bundle", "verify", bundle, "--key", key).document
    assert (document["ok"], document["subject"], document["problems"]) == (True, SUBJECT, [])


def test_an_edited_bundle_is_refused_naming_the_file(cli: Cli, exported: tuple[Path, Path]) -> None:
    bundle, key = exported
    files = {name: data for name, data in read_bundle(bundle).items() if name != SUMS}
    with bundle.open("wb") as file:
        write_zip(file, with_checksums({**files, "lineage.json": b"[]\n"}))
    called = cli("bundle", "verify", bundle, "--key", key)
    assert called.exit_code == 4
    assert "lineage.json is not the file that was exported" in called.stdout
    assert called.stderr.startswith("error: ")
    document = cli("--json", "bundle", "verify", bundle, "--key", key).document
    assert (document["ok"], document["exit_code"]) == (False, 4)


@pytest.mark.parametrize(
    ("bundle", "key", "code"), [("missing.zip", "", 3), ("text", "", 3), ("", "missing.pem", 3), ("", "text", 3)]
)
def test_what_is_no_bundle_or_no_key_is_bad_input(
    cli: Cli, exported: tuple[Path, Path], bundle: str, key: str, code: int
) -> None:
    Path("text").write_text("?")
    called = cli("bundle", "verify", bundle or exported[0], "--key", key or exported[1])
    assert called.exit_code == code
    assert called.stderr.startswith("error: ")
    assert called.stderr.count("\n") <= 2


def test_another_picture_is_not_what_the_bundle_is_about(cli: Cli, exported: tuple[Path, Path]) -> None:
    Path("picture.png").write_bytes(b"?")
    called = cli("bundle", "verify", exported[0], "--key", exported[1], "--file", "picture.png")
    assert called.exit_code == 4
    assert "picture.png is not what the bundle is about" in called.stdout


def test_an_unknown_subject_is_bad_input(cli: Cli, traced: Home, tmp_path: Path) -> None:
    called = cli("--home", traced.path, "bundle", "export", "nobody/1", "-o", tmp_path / "x.zip")
    assert called.exit_code == 3
    assert not (tmp_path / "x.zip").exists()


def test_a_revoked_identity_exports_nothing(cli: Cli, traced: Home, tmp_path: Path) -> None:
    assert cli("--home", traced.path, "identity", "create", "Bo", "--role", "auditor").exit_code == 0
    assert cli("--home", traced.path, "--as", "Bo", "bundle", "export", SUBJECT, "-o", tmp_path / "x.zip").exit_code == 0
    bo = next(
        i["identity_id"]
        for i in cli("--home", traced.path, "--json", "identity", "list").document["identities"]
        if i["name"] == "Bo"
    )
    assert cli("--home", traced.path, "identity", "revoke", bo).exit_code == 0
    assert cli("--home", traced.path, "--as", bo, "bundle", "export", SUBJECT, "-o", tmp_path / "y.zip").exit_code == 5
    assert not (tmp_path / "y.zip").exists()
