"""Guardrails on the command line: shown, tested, set, and asked."""

import subprocess
import sys

import pytest

from governance.guardrails.policy import parse_guardrails, shipped_guardrails
from groundswell.cli.main import main
from infra.home import Home
from tests.groundswell.conftest import Cli

GOOD = """
guardrails: groundswell-guardrails/1
name: mine
categories:
  - {name: dragons, reason: there are no dragons here, terms: [dragon], allow: [dragon fruit]}
examples:
  - {prompt: a green dragon, refused_as: dragons}
  - {prompt: dragon fruit}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    return path


def test_what_is_shown_can_be_set_again(cli: Cli, home: Home, file) -> None:
    shown = cli("--home", home.path, "guardrails", "show")
    assert shown.exit_code == 0
    assert parse_guardrails(shown.stdout).digest == shipped_guardrails().digest
    file.write_text(shown.stdout, encoding="utf-8")
    tested = cli("--json", "guardrails", "test", file)
    assert (tested.exit_code, all(one["ok"] for one in tested.document["examples"])) == (0, True)
    done = cli("--home", home.path, "--json", "guardrails", "set", file)
    assert (done.document["number"], done.document["digest"]) == (1, shipped_guardrails().digest)


def test_what_is_set_counts_at_once_and_is_in_the_history(cli: Cli, home: Home, file) -> None:
    check = ("--home", home.path, "--json", "guardrails", "check", "--prompt", "a GREEN dr4gon")
    assert (cli(*check).exit_code, cli(*check).document["allowed"]) == (0, True)
    assert cli("--home", home.path, "guardrails", "set", file).exit_code == 0
    refused = cli(*check)
    assert refused.exit_code == 5
    assert refused.document == {
        "allowed": False,
        "category": "dragons",
        "reason": "there are no dragons here",
        "terms": ["dragon"],
        "digest": parse_guardrails(GOOD).digest,
    }
    history = cli("--home", home.path, "--json", "guardrails", "show", "--history").document["history"]
    assert [(one["number"], one["digest"]) for one in history] == [(1, refused.document["digest"])]
    assert "production" in cli("--home", home.path, "policy", "list").stdout
    assert "@guardrails" not in cli("--home", home.path, "policy", "list").stdout
    assert cli("--home", home.path, "policy", "show", "@guardrails").exit_code == 3
    assert cli("--home", home.path, "audit", "verify").exit_code == 0


def test_a_check_against_a_file_needs_no_home_and_records_nothing(cli: Cli, file) -> None:
    refused = cli("guardrails", "check", "--prompt", "d r a g o n", "--file", file)
    assert (refused.exit_code, "dragons" in refused.stdout) == (5, True)
    allowed = cli("guardrails", "check", "--prompt", "dragon fruit", "--file", file)
    assert (allowed.exit_code, allowed.stdout) == (0, "the guardrails let it through\n")
    assert cli("guardrails", "check", "--prompt", "\x07", "--file", file).exit_code == 3
    assert cli("guardrails", "check", "--prompt", "", "--file", file).exit_code == 3


def test_an_example_that_does_not_hold_is_named_and_the_policy_is_not_set(cli: Cli, home: Home, file) -> None:
    file.write_text(GOOD.replace("[dragon]", "[wyvern]"))
    tested = cli("guardrails", "test", file)
    assert (tested.exit_code, "refused as nothing, not as dragons" in tested.stdout) == (3, True)
    refused = cli("--home", home.path, "guardrails", "set", file)
    assert (refused.exit_code, "a green dragon" in refused.stderr) == (3, True)
    assert cli("--home", home.path, "--json", "guardrails", "show", "--history").document == {"history": []}


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"x" * 300_000, GOOD.replace("name: mine", "nom: mine").encode()])
def test_a_bad_file_is_one_line(cli: Cli, file, text: bytes) -> None:
    file.write_bytes(text)
    tested = cli("guardrails", "test", file)
    assert tested.exit_code == 3
    assert tested.stderr.count("error:") == 1
    assert main(["guardrails", "test", "/nowhere.yaml"]) == 2


def test_neither_help_nor_audit_imports_what_policies_need(home: Home) -> None:
    program = (
        "import sys\nfrom groundswell.cli.main import main\n"
        f"main(['--home', {str(home.path)!r}, 'audit', 'log'])\nmain(['guardrails', '--help'])\n"
        "print(sorted({'pydantic', 'yaml', 'governance.guardrails.judging'} & set(sys.modules)), file=sys.stderr)"
    )
    called = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert called.stderr.strip().endswith("[]")
