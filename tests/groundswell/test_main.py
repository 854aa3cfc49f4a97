import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from groundswell.cli import main as main_module
from groundswell.cli.context import CommandWithVerbs, Invocation
from groundswell.cli.main import cli as root
from groundswell.cli.problem import CommandError, diagnose
from groundswell.cli.reference import render
from infra.home import Home
from tests.groundswell.conftest import Cli

HEAVY = {"torch", "kfp", "mlflow", "great_expectations", "pandas", "matplotlib", "transformers", "sklearn", "scipy"}
ROOT = Path(__file__).parents[2]


def leaves(group: click.Group = root, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command
            for verb in command.verbs.values() if isinstance(command, CommandWithVerbs) else ():
                yield (*path, name, str(verb.name)), verb


@pytest.mark.parametrize(
    ("path", "command"), list(leaves()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_says_what_it_is_for(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help, path
    assert all(option.help for option in command.params if isinstance(option, click.Option)), path


def test_the_fixed_verbs_that_work_are_there_and_no_others() -> None:
    assert {" ".join(path) for path, _ in leaves()} == {
        *("doctor", "data import", "data validate", "data show", "data card", "data withdraw", "run"),
        *("runs list", "runs show", "runs watch", "runs end", "runs compare", "compile", "submit"),
        *("models list", "models show", "models sign", "models diff", "models import", "evaluate", "generate"),
        *("promote request", "promote approve", "promote sign", "promote reject", "promote withdraw", "promote apply"),
        *("promote status", "promote list", "rollback", "notify", "policy list", "policy show", "policy set", "policy test"),
        *("guardrails show", "guardrails set", "guardrails test", "guardrails check"),
        *("lineage", "lineage diff", "lineage import"),
        *("audit log", "audit verify", "audit checkpoint", "audit export", "audit erase", "bundle export", "bundle verify"),
        "content verify",
        *(
            "identity create",
            "identity list",
            "identity revoke",
            "identity passphrase",
            "identity token create",
            "identity token list",
            "identity token revoke",
            "key list",
            "key rotate",
            "key revoke",
            "mlflow",
            "console",
            "backup",
            "restore",
        ),
    }


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8") == render(), "python -m groundswell.cli.reference docs/CLI.md"


def test_help_names_every_command(cli: Cli) -> None:
    called = cli("--help")
    assert called.exit_code == 0
    assert all(f"  {name} " in called.stdout for name in root.list_commands(click.Context(root)))


def test_no_command_is_answered_with_the_help(cli: Cli) -> None:
    called = cli()
    assert (called.exit_code, called.stdout) == (2, "")
    assert "Usage: groundswell" in called.stderr
    assert cli("--json").document["exit_code"] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["auditt"], "no such command 'auditt'", "did you mean audit?"),
        (["runs", "lst"], "no such command 'lst'", "did you mean list?"),
        (["runs", "list", "--limt", "3"], "no such option '--limt'", "did you mean --limit?"),
        (
            ["runs", "list", "--limit", "0"],
            "invalid value for '-n' / '--limit': 0 is not in the range x>=1",
            "see `groundswell runs list --help`",
        ),
        (["run", "trainig"], "invalid value for 'PIPELINE", "see `groundswell run --help`"),
        (
            ["run", "training", "--runner", "dokcer"],
            "invalid value for '--runner': 'dokcer' is not one of 'subprocess', 'docker'",
            "see `groundswell run --help`",
        ),
        (
            ["generate", "m/1", "--out", "x"],
            "name what to make: one of --prompt TEXT, --label NAME and --requests FILE",
            "see `groundswell generate --help`",
        ),
        (
            ["generate", "m/1", "--out", "x", "--prompt", "a", "--label", "b"],
            "name what to make",
            "see `groundswell generate --help`",
        ),
        (["runs", "compare", "abcdef"], "name at least two runs to compare", "see `groundswell runs compare --help`"),
        (["identity", "create", "Ada"], "missing option '--role'", "see `groundswell identity create --help`"),
    ],
)
def test_usage_errors_are_one_line_with_a_hint(cli: Cli, arguments: list[str], error: str, hint: str) -> None:
    called = cli(*arguments)
    assert called.exit_code == 2
    assert called.stdout == ""
    first, second = called.stderr.splitlines()
    assert first.startswith(f"error: {error}")
    assert second == f"hint: {hint}"


def test_under_json_an_error_is_the_one_document(cli: Cli) -> None:
    for arguments in (["--json", "runs", "list"], ["runs", "list", "--json"], ["runs", "--json", "list"]):
        called = cli(*arguments)
        assert called.exit_code == 3
        assert set(called.document) == {"error", "hint", "exit_code"}
        assert called.document["exit_code"] == 3
    assert cli("--json", "runs", "lst").document["exit_code"] == 2


def test_a_missing_home_says_how_one_is_made(cli: Cli) -> None:
    for arguments in (["runs", "list"], ["audit", "log"], ["models", "list"], ["identity", "list"], ["lineage", "x"], ["mlflow"]):
        called = cli("--home", "nowhere", *arguments)
        assert called.exit_code == 3, arguments
        assert called.stderr.startswith("error: there is no home at ")
        assert "hint: " in called.stderr
    assert not Path("nowhere").exists()


def broken(error: BaseException) -> click.Command:
    def fail(*_: object, **__: object) -> None:
        raise error

    return click.Command("doctor", callback=fail)


class _RoomError(Exception):
    diagnosis, hint, exit_code = "line one\nline two \x1b[31m", "do this", 5


@pytest.mark.parametrize(
    ("error", "exit_code", "stderr"),
    [
        (_RoomError(), 5, "error: line one\\nline two \\x1b[31m\nhint: do this\n"),
        (CommandError("bad"), 3, "error: bad\n"),
        (OSError(errno.ENOSPC, "full", "/x"), 6, "error: no space left on the disk: /x\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 3, "error: /x: permission denied\n"),
        (OSError(errno.EROFS, "ro", "/x"), 6, "error: the disk is read-only: /x\n"),
        (RuntimeError("boo"), 1, "error: unexpected RuntimeError: boo\n"),
        (ValueError(), 1, "error: unexpected ValueError\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_every_error_is_one_line_and_a_fixed_code(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, stderr: str
) -> None:
    monkeypatch.setattr(main_module.LazyGroup, "get_command", lambda *_: broken(error))
    called = cli("doctor")
    assert (called.exit_code, called.stdout) == (exit_code, "")
    assert called.stderr.lstrip("\n").startswith(stderr)
    assert "Traceback" not in called.stderr


def test_debug_adds_the_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module.LazyGroup, "get_command", lambda *_: broken(RuntimeError("boo")))
    assert "Traceback" in cli("--debug", "doctor").stderr
    assert diagnose(RuntimeError("boo")).hint


def test_global_options_may_follow_the_command(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Invocation] = []

    def open_home(invocation: Invocation, **_: Any) -> Home:
        seen.append(invocation)
        raise CommandError("stop")

    monkeypatch.setattr(Invocation, "open_home", open_home)
    cli("runs", "list", "--home", tmp_path, "--json", "--as", "Ada", "--debug")
    assert seen == [Invocation(home_folder=tmp_path, as_json=True, debug=True, identity="Ada")]


def run_python(code: str, *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GROUNDSWELL_HOME": str(home)} if home else dict(os.environ)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["runs", "list"],
        ["runs", "show", "--help"],
        ["audit", "log"],
        ["audit", "verify"],
        ["lineage", "home"],
        ["identity", "list"],
        ["models", "list"],
    ],
)
def test_commands_that_only_read_records_import_nothing_heavy(home: Home, arguments: list[str]) -> None:
    code = (
        "import sys, json; from groundswell.cli.main import main; code = main(sys.argv[1:]);"
        "print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]), file=sys.stderr)"
    )
    finished = run_python(code, *arguments, home=home.path)
    exit_code, modules = json.loads(finished.stderr.splitlines()[-1])
    assert exit_code == (3 if arguments[0] == "lineage" else 0), finished.stderr
    assert HEAVY.isdisjoint(modules)


def test_a_reader_that_goes_away_is_no_error(home: Home) -> None:
    code = "import sys; from groundswell.cli.main import main; sys.exit(main(sys.argv[1:]))"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        finished = subprocess.run(
            [sys.executable, "-c", code, "--home", str(home.path), "audit", "log"],
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert finished.returncode == 141
    assert finished.stderr == b""
