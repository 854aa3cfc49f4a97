"""`groundswell console` as a process of its own, and `groundswell identity token`."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from infra.home import Home
from tests.groundswell.conftest import Cli


def started(home: Home, *arguments: str) -> tuple[subprocess.Popen[str], dict]:
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", str(home.path), "--json", "console", "--port", "0"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}") and (line := process.stdout.readline()):
        text += line
    assert "url" in text, (text, process.communicate(timeout=20))
    return process, json.loads(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_console_says_where_it_is_and_stops_cleanly(home: Home, number: signal.Signals) -> None:
    process, document = started(home)
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"{document['url']}/readyz", timeout=5) as answer:
                assert answer.status == 200
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (0, "")


def test_a_port_in_use_is_told_in_one_line(cli: Cli, home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        called = cli("--home", home.path, "console", "--port", port)
    assert called.exit_code == 6
    assert called.stderr.splitlines() == [
        f"error: port {port} of 127.0.0.1 is in use",
        "hint: choose another with --host and --port",
    ]


def test_an_address_that_others_reach_takes_a_token(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "console", "--host", "0.0.0.0", "--port", 0)
    assert called.exit_code == 5
    assert called.stderr.startswith(
        "error: 0.0.0.0 can be reached from other machines, and there is no token for reading\nhint: "
    )
    name = cli("--home", home.path, "--json", "identity", "list").document["identities"][0]["name"]
    assert cli("--home", home.path, "identity", "token", "create", name, "--for", "read").exit_code == 0
    process, document = started(home, "--host", "0.0.0.0")
    process.terminate()
    process.communicate(timeout=20)
    assert document["takes_token"] is True, document
    process, document = started(home, "--host", "0.0.0.0", "--open")
    process.terminate()
    process.communicate(timeout=20)
    assert document["takes_token"] is False


def test_an_address_of_no_interface_is_told(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "console", "--host", "203.0.113.7", "--open", "--port", 0)
    assert called.exit_code == 6
    assert called.stderr.startswith("error: port 0 of 203.0.113.7 cannot be listened on")


def test_the_console_imports_no_torch(home: Home) -> None:
    code = "import sys, groundswell.console.server; print(sorted({'torch', 'mlflow', 'kfp', 'pandas'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_tokens_are_shown_once_listed_and_revoked(cli: Cli, home: Home) -> None:
    admin = cli("--home", home.path, "--json", "identity", "list").document["identities"][0]["identity_id"]
    made = cli("--home", home.path, "--json", "identity", "token", "create", admin, "--for", "lineage", "--for", "read").document
    assert (made["identity_id"], made["for"]) == (admin, ["lineage", "read"])
    listed = cli("--home", home.path, "identity", "token", "list").stdout
    assert made["token_id"] in listed
    assert "active" in listed
    secret = made["token"].rpartition("_")[2]
    assert secret not in listed
    assert secret not in (home.path / "groundswell.db").read_bytes().decode("latin-1")
    assert cli("--home", home.path, "identity", "token", "revoke", made["token_id"]).exit_code == 0
    assert "revoked" in cli("--home", home.path, "identity", "token", "list").stdout
    again = cli("--home", home.path, "identity", "token", "revoke", made["token_id"])
    assert (again.exit_code, again.stderr.startswith(f"error: token {made['token_id']} was revoked on ")) == (5, True)
    assert cli("--home", home.path, "identity", "token", "revoke", "0").exit_code == 3
    assert cli("--home", home.path, "audit", "verify").exit_code == 0


def test_only_an_admin_makes_tokens_of_others(cli: Cli, home: Home) -> None:
    for name in ("Ada", "Olga"):
        assert cli("--home", home.path, "identity", "create", name, "--role", "ops").exit_code == 0
    assert cli("--home", home.path, "--as", "Ada", "identity", "token", "create", "Ada", "--for", "read").exit_code == 0
    refused = cli("--home", home.path, "--as", "Ada", "identity", "token", "create", "Olga", "--for", "read")
    assert refused.exit_code == 5
    assert "is ops, and the token is another's" in refused.stderr
