"""`groundswell policy`: what each environment asks of a model version."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time
from groundswell.cli.policy_files import exit_code_of_examples, read_policy_file, tell_examples
from groundswell.cli.problem import CommandError

if TYPE_CHECKING:
    from governance.promotion.policy import Policy

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(cls=Group, name="policy")
def command() -> None:
    """List, show, set and test the policies of environments."""


@command.command("list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the environments with the policy that counts in each."""
    from infra.promotion.policies import current_policy, environments, history

    home = invocation.open_home()
    with home.database.read() as connection:
        found = [(current_policy(connection, name), len(list(history(connection, name)))) for name in environments(connection)]
    if invocation.as_json:
        echo_json(
            {
                "policies": [
                    {"environment": one.environment, "name": one.name, "digest": one.digest, "number": number or None}
                    for one, number in found
                ]
            }
        )
        return
    rows = [(one.environment, one.name, one.digest[:12], number or "as shipped", one.approvals.count) for one, number in found]
    echo_table(("environment", "policy", "digest", "number", "approvals"), rows, right=(4,))


@command.command("show")
@click.argument("environment", metavar="ENVIRONMENT")
@click.option("--history", "with_history", is_flag=True, help="List every policy that has counted there instead.")
@pass_invocation
def show(invocation: Invocation, environment: str, with_history: bool) -> None:
    """Print the policy that counts in ENVIRONMENT, as YAML that `policy set` takes."""
    import json

    import yaml

    from infra.promotion.policies import current_policy, history

    home = invocation.open_home()
    with home.database.read() as connection:
        policy = current_policy(connection, environment)
        past = list(history(connection, environment))
    if with_history:
        documents = [{"number": n, "digest": digest, "actor": actor, "set": time} for n, digest, actor, time in past]
        if invocation.as_json:
            echo_json({"environment": environment, "history": documents})
        else:
            rows = [(one["number"], str(one["digest"])[:12], one["actor"], format_time(str(one["set"]))) for one in documents]
            echo_table(("number", "digest", "set by", "set (UTC)"), rows, right=(0,))
    elif invocation.as_json:
        echo_json({"digest": policy.digest, **json.loads(policy.document)})
    else:
        click.echo(yaml.safe_dump(policy.model_dump(mode="json", exclude_none=True), sort_keys=False), nl=False)


@command.command("set", examples=("groundswell policy set production.yaml",))
@click.argument("file", type=_FILE)
@pass_invocation
def set_(invocation: Invocation, file: Path) -> None:
    """Make the policy in FILE the one that counts in its environment; needs an admin. Its examples must hold.

    Requests that were judged by the one before cannot be approved or applied any more.
    """
    from infra.promotion.policies import set_policy

    policy = _read(file)
    failed = _failed(policy)
    if failed:
        raise CommandError(
            f"{file}: example {failed[0][0]!r} does not hold: {failed[0][1]}", hint=f"`groundswell policy test {file}`"
        )
    home = invocation.open_home()
    number = set_policy(home.database, policy, actor=invocation.actor(home))
    if invocation.as_json:
        echo_json({"environment": policy.environment, "number": number, "digest": policy.digest})
    else:
        echo_facts([("environment", policy.environment), ("policy", policy.name), ("number", number), ("digest", policy.digest)])


@command.command("test", examples=("groundswell policy test production.yaml",))
@click.argument("file", type=_FILE)
@pass_invocation
def test(invocation: Invocation, file: Path) -> int:
    """Check the policy in FILE, and run its own examples; needs no home. The exit code is 3 if one does not hold."""
    policy = _read(file)
    failed = dict(_failed(policy))
    if invocation.as_json:
        echo_json(
            {
                "environment": policy.environment,
                "digest": policy.digest,
                "examples": [
                    {"name": example.name, "ok": example.name not in failed, "problem": failed.get(example.name)}
                    for example in policy.examples
                ],
            }
        )
    else:
        tell_examples([one.name for one in policy.examples], failed)
    return exit_code_of_examples(len(policy.examples), failed)


def _read(file: Path) -> "Policy":
    from governance.promotion.policy import MAX_BYTES, parse_policy

    return read_policy_file(file, parse_policy, max_bytes=MAX_BYTES)


def _failed(policy: "Policy") -> list[tuple[str, str]]:
    """Returns name and problem of the examples that do not hold."""
    from governance.promotion.gates import run_example

    found = []
    for example in policy.examples:
        refused = run_example(policy, example)
        if sorted(refused) != sorted(example.refused_by):
            expected, got = (", ".join(names) or "nothing" for names in (example.refused_by, refused))
            found.append((example.name, f"refused by {got}, not by {expected}"))
    return found
