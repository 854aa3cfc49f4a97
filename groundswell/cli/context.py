"""What every command shares: the global options, the home and who acts."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from infra.home import Home


@dataclass(kw_only=True)
class Invocation:
    """One call of the command line.

    Attributes:
        home_folder: What ``--home`` named.
        as_json: Whether standard output is one JSON document.
        debug: Whether a failure prints a traceback.
        identity: What ``--as`` named.
    """

    home_folder: Path | None = None
    as_json: bool = False
    debug: bool = False
    identity: str | None = None

    def open_home(self, *, create: bool = False) -> "Home":
        """Opens the home.

        Raises:
            BadSettingError: There is no home, and none is to be made.
        """
        from infra.home import Home
        from infra.settings import Settings

        return Home.open(Settings.load(self.home_folder), create=create)

    @property
    def program(self) -> str:
        """How to call the command line again on the same home."""
        return f"groundswell --home {shlex.quote(str(self.home_folder))}" if self.home_folder else "groundswell"

    def actor(self, home: "Home") -> str:
        """Returns the identity that acts: the one named by ``--as``, otherwise the first of the home.

        Raises:
            RefusedError: The identity is unknown or revoked.
        """
        from groundswell.cli.actor import resolve_actor

        return resolve_actor(home, self.identity)


def _set(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value not in (None, False):
            setattr(ctx.find_root().ensure_object(Invocation), field, value)

    return callback


def global_options(*, hidden: bool) -> list[click.Option]:
    """Returns the options that every command takes, before or after its name."""
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_set("home_folder"),
            hidden=hidden,
            help="The home to work in: database, keys, runs, models.  [default: $GROUNDSWELL_HOME, else ./.groundswell]",
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            expose_value=False,
            callback=_set("as_json"),
            hidden=hidden,
            help="Print one JSON document on standard output; progress stays on standard error.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_set("debug"),
            hidden=hidden,
            help="Print a traceback when something fails.",
        ),
        click.Option(
            ["--as", "as_identity"],
            metavar="IDENTITY",
            expose_value=False,
            callback=_set("identity"),
            hidden=hidden,
            help="Who acts, as recorded in the ledger.  [default: the home's first identity, an admin]",
        ),
    ]


class Command(click.Command):
    """A command that takes the global options after its name too.

    Args:
        *args: As for `click.Command`.
        examples: Calls to show at the end of the help page.
        **kwargs: As for `click.Command`.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.extend(global_options(hidden=True))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples to the help page, unwrapped."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Group(click.Group):
    """A group whose commands take the global options, and which takes them itself."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options(hidden=True))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Returns the commands in the order in which they are written down, which is that of their use."""
        return list(self.commands)


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
