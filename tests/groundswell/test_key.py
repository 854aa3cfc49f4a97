import shutil
from pathlib import Path

import pytest

from infra.home import Home
from infra.ledger import sign_checkpoint
from tests.groundswell.conftest import Cli
from tests.groundswell.test_models import register


@pytest.fixture
def model(home: Home, tmp_path: Path) -> str:
    """A registered model."""
    register(home, tmp_path / "first", 1, weight=0.5, kid=0.5)
    sign_checkpoint(home.database, home.keys)
    return "emoji-dit/1"


def keys(cli: Cli, home: Home) -> list[tuple[str, str]]:
    listed = cli("--home", home.path, "--json", "key", "list").document["keys"]
    return [(key["name"], key["state"]) for key in listed]


def test_keys_are_listed_and_rotated(cli: Cli, home: Home, model: str) -> None:
    assert keys(cli, home) == [("log", "current"), ("package-signing", "current")]
    called = cli("--home", home.path, "--json", "key", "rotate", "package-signing")
    assert called.exit_code == 0
    assert keys(cli, home) == [("log", "current"), ("package-signing", "retired"), ("package-signing", "current")]
    listed = cli("--home", home.path, "key", "list").stdout
    assert called.document["fingerprint"][:16] in listed
    assert cli("--home", home.path, "models", "show", model).exit_code == 0


def test_a_model_of_a_revoked_key_is_refused_with_what_to_do(cli: Cli, home: Home, model: str) -> None:
    fingerprint = cli("--home", home.path, "--json", "key", "list").document["keys"][1]["fingerprint"]
    called = cli("--home", home.path, "key", "revoke", fingerprint[:12], "--reason", "a lost disk")
    assert called.exit_code == 0
    assert f"groundswell --home {home.path} key rotate package-signing" in called.stdout
    called = cli("--home", home.path, "models", "show", model)
    assert called.exit_code == 5
    error, hint = called.stderr.splitlines()
    assert error.startswith(f"error: the model package is signed by key {fingerprint[:16]}, which was revoked on 20")
    assert "groundswell models sign" in hint
    called = cli("--home", home.path, "models", "sign", model)
    assert (called.exit_code, "key rotate package-signing" in called.stderr) == (5, True)
    called = cli("--home", home.path, "doctor")
    assert "key rotate package-signing" in called.stdout
    assert cli("--home", home.path, "key", "rotate", "package-signing").exit_code == 0
    assert cli("--home", home.path, "models", "sign", model).exit_code == 0
    assert cli("--home", home.path, "--json", "models", "show", model).document["verified"]


def test_verification_says_which_keys_were_revoked_and_still_succeeds(cli: Cli, home: Home) -> None:
    fingerprint = cli("--home", home.path, "--json", "key", "list").document["keys"][1]["fingerprint"]
    cli("--home", home.path, "key", "revoke", fingerprint, "--reason", "a lost disk")
    called = cli("--home", home.path, "audit", "verify")
    assert called.exit_code == 0
    assert f"warning: the package-signing key {fingerprint[:16]} was revoked on 20" in called.stderr
    assert cli("--home", home.path, "--json", "audit", "verify").document["notices"]


def test_witnesses_are_given_the_checkpoint_of_a_rotation(
    cli: Cli, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDSWELL_WITNESSES", str(tmp_path / "witness"))
    assert cli("--home", home.path, "key", "rotate", "package-signing").exit_code == 0
    assert len(list((tmp_path / "witness").iterdir())) == 1
    assert cli("--home", home.path, "audit", "verify").exit_code == 0
    shutil.rmtree(tmp_path / "witness")


def test_keys_are_changed_by_admins_only(cli: Cli, home: Home) -> None:
    cli("--home", home.path, "identity", "create", "Ada", "--role", "ops")
    for arguments in (["rotate", "package-signing"], ["revoke", "0" * 16, "--reason", "because"]):
        called = cli("--home", home.path, "--as", "Ada", "key", *arguments)
        assert (called.exit_code, "takes admin" in called.stderr) == (5, True)


def test_whoever_has_the_old_log_key_is_led_to_the_new_one(cli: Cli, home: Home, tmp_path: Path) -> None:
    old, middle = tmp_path / "old.pem", tmp_path / "middle.pem"
    shutil.copyfile(home.keys.public_path("log"), old)
    assert cli("--home", home.path, "key", "rotate", "log").exit_code == 0
    called = cli("--home", home.path, "audit", "verify", "--key", old)
    assert called.exit_code == 0
    assert "warning: the log's key was rotated: groundswell/" in called.stderr
    shutil.copyfile(home.keys.public_path("log"), middle)
    assert cli("--home", home.path, "key", "rotate", "log", "--compromised", "--reason", "a break-in").exit_code == 0
    assert cli("--home", home.path, "audit", "verify").exit_code == 0
    for key in (old, middle):
        called = cli("--home", home.path, "audit", "verify", "--key", key)
        assert called.exit_code == 4
        assert "ask whoever runs the log for the new one" in called.stdout
    assert keys(cli, home)[:3] == [("log", "retired"), ("log", "revoked"), ("log", "current")]


def test_a_theft_is_of_the_logs_key_and_has_a_reason(cli: Cli, home: Home) -> None:
    for arguments in (["log", "--compromised"], ["log", "--reason", "x"], ["package-signing", "--compromised", "--reason", "x"]):
        called = cli("--home", home.path, "key", "rotate", *arguments)
        assert (called.exit_code, "--compromised" in called.stderr) == (2, True)
    assert keys(cli, home) == [("log", "current"), ("package-signing", "current")]
