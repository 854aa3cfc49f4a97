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
