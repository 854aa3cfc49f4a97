"""What commands about a policy in a YAML file do alike: read it, and tell how its own examples came out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import click

from groundswell.cli.output import echo_table
from groundswell.cli.problem import EXIT_BAD_INPUT, CommandError, Problem, tell_problem

Parsed = TypeVar("Parsed")


def read_policy_file(file: Path, parse: Callable[[str], Parsed], *, max_bytes: int) -> Parsed:
    """Returns the policy that a file holds.

    Args:
        file: The file.
        parse: Reads the policy's text, and raises where it is none.
        max_bytes: What a policy does not exceed.

    Raises:
        CommandError: The file is too large, or no text.
    """
    if file.stat().st_size > max_bytes:
        raise CommandError(f"{file} is larger than {max_bytes >> 10} KiB", hint="a policy is a few pages of YAML")
    try:
        return parse(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is no text") from error


def tell_examples(examples: Sequence[str], failed: Mapping[str, str]) -> None:
    """Prints which of a policy's examples hold, and why the others do not."""
    if not examples:
        click.echo("the policy is well formed; it has no examples")
        return
    echo_table(
        ("", "example", ""), [("failed" if one in failed else "ok", one, failed.get(one, "")) for one in examples], state_column=0
    )


def exit_code_of_examples(num_examples: int, failed: Mapping[str, str]) -> int:
    """Returns 0 where every example holds; otherwise says how many do not, and returns 3."""
    if not failed:
        return 0
    problem = Problem(diagnosis=f"{len(failed)} of {num_examples} examples do not hold", exit_code=EXIT_BAD_INPUT)
    tell_problem(problem, as_json=False)
    return EXIT_BAD_INPUT
