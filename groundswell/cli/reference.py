"""Writes docs/CLI.md from the commands themselves: ``python -m groundswell.cli.reference docs/CLI.md``."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from groundswell.cli.context import Command, CommandWithVerbs
from groundswell.cli.main import cli

_INTRODUCTION = """\
# Command line

<!-- Written by `python -m groundswell.cli.reference docs/CLI.md`; edit the commands, not this file. -->

`groundswell [--home DIR] [--json] [--debug] [--as IDENTITY] COMMAND`

| global option | does |
|---|---|
{options}

The global options may stand before or after the command.

- **Output.** What a command found or made goes to standard output, progress and errors to standard error. With `--json`,
  standard output is exactly one JSON document, also when the command fails: then it is
  `{{"error": ..., "hint": ..., "exit_code": ...}}`; a run that failed prints its usual document, with these keys in it.
- **Errors** are one line `error: ...` and, where there is something to be done, a line `hint: ...`. `--debug` adds the traceback.
- **Progress** is a table that redraws itself on a terminal, and plain lines, one for each change and one about every ten
  seconds, where there is none.

| exit code | means |
|---|---|
| 0 | done |
| 1 | unexpected: a defect |
| 2 | usage: an unknown command or option |
| 3 | bad input: a file, parameter or name that cannot be used |
| 4 | integrity: a digest, a signature or a proof does not hold |
| 5 | refused by a policy or a role |
| 6 | a backend is unavailable: database, disk, server |
| 130 | interrupted |

## Commands
"""


def render() -> str:
    """Returns the text of docs/CLI.md."""
    root = click.Context(cli, info_name="groundswell")
    options = "\n".join(_option_rows(cli, root))
    commands = list(_leaves(cli, root))
    contents = "\n".join(f"- [`{path}`](#{_anchor(path)}): {_first_sentence(command)}" for path, command, _ in commands)
    sections = "\n".join(_section(path, command, ctx) for path, command, ctx in commands)
    return f"{_INTRODUCTION.format(options=options)}\n{contents}\n\n{sections}"


def _leaves(group: click.Group, ctx: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None:
            continue
        inner = click.Context(command, info_name=name, parent=ctx)
        if isinstance(command, click.Group):
            yield from _leaves(command, inner)
        else:
            yield inner.command_path, command, inner
            for verb in command.verbs.values() if isinstance(command, CommandWithVerbs) else ():
                path = f"{name} {verb.name}"
                yield f"{ctx.command_path} {path}", verb, click.Context(verb, info_name=path, parent=ctx)


def _section(path: str, command: click.Command, ctx: click.Context) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(ctx)])
    lines = [f"### {path}", "", f"`{usage}`", "", _help_text(command), ""]
    if rows := _option_rows(command, ctx):
        lines += ["| option | does |", "|---|---|", *rows, ""]
    if isinstance(command, Command) and command.examples:
        lines += ["```console", *(f"$ {example}" for example in command.examples), "```", ""]
    return "\n".join(lines)


def _help_text(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "")


def _first_sentence(command: click.Command) -> str:
    return " ".join(_help_text(command).split("\n\n")[0].split())


def _option_rows(command: click.Command, ctx: click.Context) -> list[str]:
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record:
            rows.append(f"| `{_cell(record[0])}` | {_cell(' '.join(record[1].split()))} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(path: str) -> str:
    return path.replace(" ", "-")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
