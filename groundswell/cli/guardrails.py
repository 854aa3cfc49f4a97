"""`groundswell guardrails`: what may be generated, and with which models."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time
from groundswell.cli.policy_files import exit_code_of_examples, read_policy_file, tell_examples
from groundswell.cli.problem import EXIT_REFUSED, CommandError

if TYPE_CHECKING:
    from governance.guardrails.policy import Guardrails

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(cls=Group, name="guardrails")
def command() -> None:
    """Show, set and test the policy of what may be generated, and check prompts against it."""


@command.command("show")
@click.option("--history", "with_history", is_flag=True, help="List every policy that has counted instead.")
@pass_invocation
def show(invocation: Invocation, with_history: bool) -> None:
    """Print the policy that counts, as YAML that `guardrails set` takes."""
    import yaml

    from infra.guardrails import current_guardrails, history

    home = invocation.open_home()
    with home.database.read() as connection:
        policy = current_guardrails(connection)
        past = list(history(connection))
    if with_history:
        documents = [{"number": n, "digest": digest, "actor": actor, "set": time} for n, digest, actor, time in past]
        if invocation.as_json:
            echo_json({"history": documents})
        else:
            rows = [(one["number"], str(one["digest"])[:12], one["actor"], format_time(str(one["set"]))) for one in documents]
            echo_table(("number", "digest", "set by", "set (UTC)"), rows, right=(0,))
    elif invocation.as_json:
        echo_json({"digest": policy.digest, "number": past[-1][0] if past else None, **policy.model_dump(mode="json")})
    else:
        document = policy.model_dump(mode="json", exclude_none=True)
        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120), nl=False)


@command.command("set", examples=("groundswell guardrails set guardrails.yaml",))
@click.argument("file", type=_FILE)
@pass_invocation
def set_(invocation: Invocation, file: Path) -> None:
    """Make the policy in FILE the one that counts, from the next request on; needs an admin. Its examples must hold."""
    from infra.guardrails import set_guardrails

    policy = _read(file)
    if failed := _failed(policy):
        prompt, problem = failed[0]
        raise CommandError(f"{file}: example {prompt!r} does not hold: {problem}", hint=f"`groundswell guardrails test {file}`")
    home = invocation.open_home()
    number = set_guardrails(home.database, policy, actor=invocation.actor(home))
    if invocation.as_json:
        echo_json({"name": policy.name, "number": number, "digest": policy.digest})
    else:
        echo_facts([("guardrails", policy.name), ("number", number), ("digest", policy.digest)])


@command.command("test", examples=("groundswell guardrails test guardrails.yaml",))
@click.argument("file", type=_FILE)
@pass_invocation
def test(invocation: Invocation, file: Path) -> int:
    """Check the policy in FILE, and try its own examples; needs no home. The exit code is 3 if one does not hold."""
    policy = _read(file)
    failed = dict(_failed(policy))
    if invocation.as_json:
        examples = [
            {"prompt": one.prompt, "ok": one.prompt not in failed, "problem": failed.get(one.prompt)} for one in policy.examples
        ]
        echo_json({"name": policy.name, "digest": policy.digest, "examples": examples})
    else:
        tell_examples([one.prompt for one in policy.examples], failed)
    return exit_code_of_examples(len(policy.examples), failed)


@command.command(
    "check",
    examples=(
        'groundswell guardrails check --prompt "flag of Japan"',
        'groundswell guardrails check --prompt "..." --file mine.yaml',
    ),
)
@click.option("--prompt", metavar="TEXT", required=True, help="The prompt.")
@click.option("--file", type=_FILE, metavar="FILE", help="Check against the policy in this file; needs no home.")
@pass_invocation
def check(invocation: Invocation, prompt: str, file: Path | None) -> int:
    """Say whether the policy lets a prompt through, and which of its terms refuse it. The exit code is 5 if it does not.

    Nothing is generated, and nothing is recorded.
    """
    from governance.guardrails.judging import find_refusal, require_text
    from infra.guardrails import current_guardrails

    if file is not None:
        policy = _read(file)
    else:
        with invocation.open_home().database.read() as connection:
            policy = current_guardrails(connection)
    require_text(policy, prompt)
    found = find_refusal(policy, prompt)
    category = found.category if found else None
    if invocation.as_json:
        echo_json(
            {
                "allowed": found is None,
                "category": category and category.name,
                "reason": category and category.reason,
                "terms": found.terms if found else [],
                "digest": policy.digest,
            }
        )
    elif found:
        facts = [("refused as", found.category.name), ("reason", found.category.reason), ("by", " + ".join(found.terms))]
        echo_facts(facts)
    else:
        click.echo("the guardrails let it through")
    return EXIT_REFUSED if found else 0


def _read(file: Path) -> "Guardrails":
    from governance.guardrails.policy import MAX_BYTES, parse_guardrails

    return read_policy_file(file, parse_guardrails, max_bytes=MAX_BYTES)


def _failed(policy: "Guardrails") -> list[tuple[str, str]]:
    """Returns prompt and problem of the examples that do not hold."""
    from governance.guardrails.judging import failed_example

    return [(one.prompt, problem) for one in policy.examples if (problem := failed_example(policy, one))]
