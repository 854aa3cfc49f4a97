"""What went wrong, in one line for a person and one number for a script.

Errors of every room carry ``diagnosis``, ``hint`` and ``exit_code``; here they, click's usage errors and the operating
system's errors become a `Problem`.
"""

import errno
from dataclasses import dataclass

import click

from groundswell.cli.output import echo_json, printable

EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3
EXIT_INTEGRITY = 4
EXIT_REFUSED = 5
EXIT_UNAVAILABLE = 6
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNUSABLE_PATH = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is told when a command fails.

    Attributes:
        diagnosis: One line that says what is wrong.
        hint: One line that says what to do about it, or empty.
        exit_code: The exit code of the process.
    """

    diagnosis: str
    hint: str = ""
    exit_code: int = EXIT_UNEXPECTED

    def to_dict(self) -> dict[str, str | int]:
        """Returns the document that stands on standard output under ``--json``."""
        return {"error": self.diagnosis, "hint": self.hint, "exit_code": self.exit_code}


class CommandError(Exception):
    """A problem that only the command line can see.

    Args:
        diagnosis: One line that says what is wrong.
        hint: One line that says what to do about it.
        exit_code: The exit code of the process.
    """

    def __init__(self, diagnosis: str, *, hint: str = "", exit_code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(diagnosis)
        self.diagnosis = diagnosis
        self.hint = hint
        self.exit_code = exit_code


def diagnose(error: BaseException) -> Problem:
    """Returns what to tell about an error."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Problem(diagnosis="interrupted", hint=str(getattr(error, "hint", "")), exit_code=EXIT_INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _usage_problem(error)
    diagnosis, exit_code = getattr(error, "diagnosis", None), getattr(error, "exit_code", None)
    if isinstance(diagnosis, str) and isinstance(exit_code, int):
        return Problem(diagnosis=diagnosis, hint=str(getattr(error, "hint", "")), exit_code=exit_code)
    if isinstance(error, OSError) and (problem := _os_problem(error)):
        return problem
    return Problem(
        diagnosis=f"unexpected {type(error).__name__}: {error}" if str(error) else f"unexpected {type(error).__name__}",
        hint="this is a defect of groundswell; run the same command with --debug and report what it prints",
    )


def tell_problem(problem: Problem, *, as_json: bool) -> None:
    """Prints a problem on standard error, and as a document on standard output where one is expected."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {printable(problem.diagnosis)}", err=True)
    if problem.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {printable(problem.hint)}", err=True)
    if as_json:
        echo_json(problem.to_dict())


def _usage_problem(error: click.ClickException) -> Problem:
    message = error.message if isinstance(error, (click.NoSuchOption, click.exceptions.NoSuchCommand)) else error.format_message()
    message = message.strip().removesuffix(".").replace("\n", " ").replace("\t", " ")
    if message[:1].isupper() and not message[1:2].isupper():
        message = message[0].lower() + message[1:]
    possibilities = getattr(error, "possibilities", None)
    if possibilities:
        hint = f"did you mean {' or '.join(possibilities)}?"
    elif isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"see `{error.ctx.command_path} --help`"
    else:
        hint = ""
    return Problem(diagnosis=message, hint=hint, exit_code=EXIT_USAGE)


def _os_problem(error: OSError) -> Problem | None:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in _FULL:
        return Problem(
            diagnosis=f"no space left on the disk{where}",
            hint="free some space and run the same command again; what was finished is kept",
            exit_code=EXIT_UNAVAILABLE,
        )
    if error.errno == errno.EROFS:
        return Problem(diagnosis=f"the disk is read-only{where}", hint="choose another folder", exit_code=EXIT_UNAVAILABLE)
    if error.errno in _UNUSABLE_PATH and error.filename:
        reason = (error.strerror or "unusable").lower()
        return Problem(
            diagnosis=f"{error.filename}: {reason}", hint="check the path and its permissions", exit_code=EXIT_BAD_INPUT
        )
    return None
