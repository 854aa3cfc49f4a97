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

    def open_home(self, *, create: bool = False, keep_guards: bool = True) -> "Home":
        """Opens the home, see `infra.home.Home.open`.

        Raises:
            BadSettingError: There is no home, and none is to be made.
        """
        from infra.home import Home
        from infra.settings import Settings

        return Home.open(Settings.load(self.home_folder), create=create, keep_guards=keep_guards)

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


class CommandWithVerbs(Command):
    """A command with an argument, some values of which are verbs with arguments of their own.

    A word that is a verb and at the same time a path here is the verb only where an argument follows it.

    Args:
        *args: As for `Command`.
        verbs: The verbs.
        **kwargs: As for `Command`.
    """

    def __init__(self, *args: Any, verbs: Sequence[click.Command], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = {str(verb.name): verb for verb in verbs}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Makes the context of the command, or that of the verb which was called."""
        place = self._first_word(args)
        word, rest = args[place : place + 1], args[place + 1 :]
        verb = self.verbs.get(word[0]) if word else None
        if verb is None or (Path(word[0]).exists() and (not rest or rest[0].startswith("-"))):
            return super().make_context(info_name, args, parent=parent, **extra)
        return verb.make_context(f"{info_name} {verb.name}", [*args[:place], *rest], parent=parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verbs and the examples to the help page."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.get_short_help_str(90)) for name, verb in self.verbs.items()])
        super().format_epilog(ctx, formatter)

    @staticmethod
    def _first_word(args: Sequence[str]) -> int:
        """Returns the place of the first argument that is no global option."""
        place = 0
        while place < len(args) and args[place] in {"--json", "--debug", "--home", "--as"}:
            place += 2 if args[place] in {"--home", "--as"} else 1
        return place


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
