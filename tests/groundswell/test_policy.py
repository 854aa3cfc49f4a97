"""Policies on the command line: printed, tested, set, and refused."""

import pytest

from governance.promotion.policy import parse_policy
from groundswell.cli.main import main
from infra.home import Home
from tests.groundswell.conftest import Cli

GOOD = """
policy: groundswell-policy/1
name: mine
environment: canary
approvals: {count: 1}
gates: {thresholds: [{metric: kid, max: 0.1}]}
examples:
  - name: too far
    candidate: {metrics: {kid: 0.2}}
    refused_by: [threshold.kid]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "canary.yaml"
    path.write_text(GOOD)
    return path


def test_what_is_shown_can_be_set_again(cli: Cli, home: Home, file) -> None:
    shown = cli("--home", home.path, "policy", "show", "production")
    assert shown.exit_code == 0
    file.write_text(shown.stdout)
    tested = cli("--json", "policy", "test", file)
    assert tested.exit_code == 0
    assert all(example["ok"] for example in tested.document["examples"])
    assert tested.document["digest"] == parse_policy(shown.stdout).digest
    assert cli("--home", home.path, "--json", "policy", "set", file).document["digest"] == tested.document["digest"]


def test_a_new_environment_begins_with_its_policy(cli: Cli, home: Home, file) -> None:
    missing = cli("--home", home.path, "policy", "show", "canary")
    assert (missing.exit_code, "no environment 'canary'" in missing.stderr) == (3, True)
    assert cli("--home", home.path, "policy", "set", file).exit_code == 0
    listed = cli("--home", home.path, "--json", "policy", "list").document["policies"]
    assert [(one["environment"], one["number"]) for one in listed] == [("canary", 1), ("production", None), ("staging", None)]
    assert cli("--home", home.path, "--json", "policy", "set", file).document["number"] == 1
    file.write_text(GOOD.replace("max: 0.1", "max: 0.15"))
    assert cli("--home", home.path, "--json", "policy", "set", file).document["number"] == 2
    history = cli("--home", home.path, "--json", "policy", "show", "canary", "--history").document["history"]
    assert [one["number"] for one in history] == [1, 2]


def test_an_example_that_does_not_hold_is_named_and_the_policy_is_not_set(cli: Cli, home: Home, file) -> None:
    file.write_text(GOOD.replace("max: 0.1", "max: 0.9"))
    tested = cli("policy", "test", file)
    assert tested.exit_code == 3
    assert "refused by nothing, not by threshold.kid" in tested.stdout
    refused = cli("--home", home.path, "policy", "set", file)
    assert (refused.exit_code, "too far" in refused.stderr) == (3, True)
    assert cli("--home", home.path, "policy", "show", "canary").exit_code == 3


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"x" * 70_000, GOOD.replace("count: 1", "count: none").encode()])
def test_a_bad_file_is_one_line(cli: Cli, file, text: bytes) -> None:
    file.write_bytes(text)
    tested = cli("policy", "test", file)
    assert tested.exit_code == 3
    assert tested.stderr.count("error:") == 1


def test_nothing_is_where_nothing_was_promoted(cli: Cli, home: Home) -> None:
    assert "no champion yet" in cli("--home", home.path, "promote", "status").stdout
    assert cli("--home", home.path, "--json", "promote", "list").document == {"requests": []}
    assert cli("--home", home.path, "promote", "status", "p-0123456789").exit_code == 3
    assert cli("--home", home.path, "promote", "request", "nobody/1").exit_code == 3
    assert cli("--home", home.path, "rollback", "nobody", "--reason", "x").exit_code == 3
    assert main(["policy", "test", "/nowhere.yaml"]) == 2
