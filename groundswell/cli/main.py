"""The entry point: the table of commands, each imported only when it is called, and the one catch of errors."""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import groundswell
from groundswell.cli.context import Invocation, global_options
from groundswell.cli.output import echo_json
from groundswell.cli.problem import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, EXIT_USAGE, Problem, diagnose, tell_problem

_PROGRAM = "groundswell"
_GC_THRESHOLD = 100_000
"""Imports make objects that stay: collecting among them every 700 costs a command an eighth of its start."""

# Section -> command -> (module below groundswell.cli, what it does). The command's object is named after the command.
_SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Start here": {
        "doctor": ("doctor", "Say what works here and what is missing, with the remedy."),
        "run": ("run", "Run a pipeline here, with live progress."),
    },
    "Data and runs": {
        "data": ("data", "Build, check and look at datasets."),
        "runs": ("runs", "List, show, watch and compare runs."),
        "compile": ("compile", "Compile a pipeline for a Kubeflow cluster."),
        "submit": ("submit", "Run a pipeline on a Kubeflow cluster, on record here."),
        "mlflow": ("mlflow_ui", "Open the MLflow pages on the home's own store."),
        "console": ("console", "Serve pages, metrics and an endpoint for lineage events."),
    },
    "Models": {
        "models": ("models", "List, verify, show, compare and sign registered models."),
        "evaluate": ("evaluate", "Measure a registered model again, and what its samples are worth."),
        "generate": ("generate", "Make pictures with a registered model."),
        "guardrails": ("guardrails", "Show, set and test what may be generated."),
    },
    "Promotion": {
        "promote": ("promote", "Request, approve and apply promotions, and see what is where."),
        "rollback": ("rollback", "Go back to the champion before, at once."),
        "policy": ("policy", "List, show, set and test the policies of environments."),
        "notify": ("notify", "Tell webhooks what waits for them about promotions."),
    },
    "Records": {
        "lineage": ("lineage", "Show where a model, run, dataset or picture came from."),
        "audit": ("audit", "Read, verify, sign and export the ledger."),
        "bundle": ("bundle", "Export evidence in one file, and verify such a file."),
        "content": ("content", "Verify where a picture or clip came from."),
        "identity": ("identity", "Create, list and revoke the identities that act, and protect their keys."),
        "key": ("key", "List, rotate and revoke the platform's own keys."),
        "backup": ("backup", "Write the home to one file, verified."),
        "restore": ("restore", "Restore a home from a backup, into either kind of database."),
    },
}


class LazyGroup(click.Group):
    """The root group: knows the names of all commands, and imports one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Returns the names of all commands, in the order of the help page."""
        return [name for commands in _SECTIONS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Imports a command."""
        for commands in _SECTIONS.values():
            if cmd_name in commands:
                module = import_module(f"groundswell.cli.{commands[cmd_name][0]}")
                command: click.Command = module.command
                return command
        return None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that was called; a misspelt one is answered with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands to the help page by section, without importing them."""
        width = max(len(name) for name in self.list_commands(ctx))
        for section, commands in _SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; a reader that went away is no error worth a message."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered must not be written when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None
        return result


@click.group(
    name=_PROGRAM,
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[*global_options(hidden=False)],
    epilog="The four options above may also follow the command. Every command has its own --help; docs/CLI.md has them all.",
)
@click.version_option(groundswell.__version__, prog_name=_PROGRAM)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Train generative models and prove where every generated frame came from."""
    ctx.ensure_object(Invocation)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments after the program's name; those of this process by default.

    Returns:
        The exit code.
    """
    gc.set_threshold(_GC_THRESHOLD)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = list(sys.argv[1:] if argv is None else argv)
    flags = set(args[: args.index("--")] if "--" in args else args)
    try:
        result = cli.main(args=args, prog_name=_PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        return _tell_missing_command(error, as_json="--json" in flags)
    except Exception as error:  # noqa: BLE001 - the one catch
        return _tell(error, as_json="--json" in flags, debug="--debug" in flags)
    return result if isinstance(result, int) else 0


def _tell(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Prints what went wrong and returns the exit code."""
    problem = diagnose(error)
    if debug and problem.exit_code != EXIT_INTERRUPTED:
        traceback.print_exception(error)
    tell_problem(problem, as_json=as_json)
    return problem.exit_code


def _tell_missing_command(error: click.exceptions.NoArgsIsHelpError, *, as_json: bool) -> int:
    click.echo(error.format_message(), err=True)
    if as_json:
        echo_json(Problem(diagnosis="a command is missing", exit_code=EXIT_USAGE).to_dict())
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
