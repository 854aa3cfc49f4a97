from pathlib import Path

import pytest

from infra.home import Home
from tests.groundswell.conftest import Cli


def test_an_identity_is_created_listed_and_revoked(cli: Cli, home: Home) -> None:
    created = cli("--home", home.path, "--json", "identity", "create", "Ada", "--role", "ops")
    assert created.exit_code == 0
    identity = created.document["identity_id"]
    assert (created.document["name"], created.document["role"]) == ("Ada", "ops")
    listed = cli("--home", home.path, "identity", "list").stdout
    assert identity in listed
    assert "active" in listed
    assert cli("--home", home.path, "identity", "revoke", "Ada").exit_code == 0
    assert cli("--home", home.path, "--json", "identity", "list").document["identities"][-1]["revoked"]


def test_only_an_admin_creates_identities(cli: Cli, home: Home) -> None:
    cli("--home", home.path, "identity", "create", "Ada", "--role", "ops")
    called = cli("--home", home.path, "--as", "Ada", "identity", "create", "Bob", "--role", "admin")
    assert called.exit_code == 5
    assert called.stderr.startswith("error: identity id-")


def test_an_unknown_or_revoked_identity_does_not_act(cli: Cli, home: Home) -> None:
    identity = cli("--home", home.path, "--json", "identity", "create", "Ada", "--role", "admin").document["identity_id"]
    assert cli("--home", home.path, "identity", "revoke", identity).exit_code == 0
    for name in (identity, "nobody"):
        called = cli("--home", home.path, "--as", name, "audit", "checkpoint")
        assert called.exit_code == 5, called
        assert "hint: `groundswell identity list`" in called.stderr


def test_the_last_admin_stays(cli: Cli, home: Home) -> None:
    first = cli("--home", home.path, "--json", "identity", "list").document["identities"][0]["identity_id"]
    called = cli("--home", home.path, "identity", "revoke", first)
    assert called.exit_code == 5
    assert "hint: create another admin first" in called.stderr


def passphrase_file(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_private_key_gets_a_passphrase_another_and_none(
    cli: Cli, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = passphrase_file(tmp_path / "first", "one"), passphrase_file(tmp_path / "second", "two\n")
    monkeypatch.setenv("GROUNDSWELL_PASSPHRASE_FILE", str(first))
    created = cli("--home", home.path, "--json", "identity", "create", "Ada", "--role", "ops", "--passphrase").document
    identity = created["identity_id"]
    assert b"ENCRYPTED" in Path(created["private_key"]).read_bytes()
    called = cli("--home", home.path, "identity", "passphrase", "Ada")
    assert (called.exit_code, "--new-file" in called.stderr) == (3, True), "the file has the present one"
    assert cli("--home", home.path, "identity", "passphrase", "Ada", "--new-file", second).exit_code == 0
    called = cli("--home", home.path, "identity", "passphrase", "Ada", "--remove")
    assert called.exit_code == 3
    assert called.stderr.splitlines() == [
        f"error: the passphrase of private key {home.keys.private_path(identity)} is wrong",
        "hint: try again",
    ]
    monkeypatch.setenv("GROUNDSWELL_PASSPHRASE_FILE", str(second))
    called = cli("--home", home.path, "--json", "identity", "passphrase", "Ada", "--remove")
    assert called.document == {"identity_id": identity, "has_passphrase": False}
    assert not home.keys.has_passphrase(identity)
    assert cli("--home", home.path, "identity", "passphrase", "Ada").exit_code == 0
    assert home.keys.has_passphrase(identity)


def test_a_passphrase_without_a_terminal_needs_a_file(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROUNDSWELL_PASSPHRASE_FILE", raising=False)
    called = cli("--home", home.path, "identity", "create", "Ada", "--role", "ops", "--passphrase")
    assert called.exit_code == 3
    error, hint = called.stderr.splitlines()
    assert error.startswith("error: nobody can be asked")
    assert "GROUNDSWELL_PASSPHRASE_FILE" in hint
    assert len(cli("--home", home.path, "--json", "identity", "list").document["identities"]) == 1
