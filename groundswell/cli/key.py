"""`groundswell key`: the platform's own keys."""

from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time, tell_warnings

if TYPE_CHECKING:
    from governance.platform_keys import PlatformKey
    from infra.home import Home
    from infra.key_rotation import KeyChange

_SHOWN_DIGITS = 16


@click.group(cls=Group, name="key")
def command() -> None:
    """List, rotate and revoke the platform's own keys.

    A fingerprint is the SHA-256 of the public key in DER: openssl pkey -pubin -in FILE -outform DER | sha256sum
    """


@command.command("list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the platform's keys as the ledger names them, oldest first."""
    from infra.keys import PLATFORM_KEYS
    from infra.platform_keys import key_history

    home = invocation.open_home()
    with home.database.read() as connection:
        keys = [key for name in PLATFORM_KEYS for key in key_history(connection, name).keys]
    if invocation.as_json:
        echo_json({"keys": [_document(key) for key in keys]})
        return
    rows = [
        (key.name, key.algorithm, key.fingerprint[:_SHOWN_DIGITS], format_time(key.since), key.state.value, _until(key))
        for key in keys
    ]
    echo_table(("key", "algorithm", "fingerprint", "since (UTC)", "state", "until (UTC)"), rows, state_column=4)


@command.command(
    "rotate",
    examples=(
        "groundswell key rotate package-signing",
        'groundswell key rotate log --compromised --reason "a break-in"',
    ),
)
@click.argument("name", metavar="NAME", type=click.Choice(["package-signing", "log", "content-credentials"]))
@click.option("--compromised", is_flag=True, help="The log's key was stolen: revoke it, and have it sign nothing over.")
@click.option("--reason", metavar="TEXT", help="Why, with --compromised; the ledger holds a commitment to it.")
@pass_invocation
def rotate(invocation: Invocation, name: str, compromised: bool, reason: str | None) -> None:
    """Make a new key NAME (package-signing, log or content-credentials) in the place of the current one; needs an admin.

    What the old key has signed stays valid. Its private half is removed, its public one kept. The log's old key signs over to the
    new one, so that whoever has it is led there; with --compromised it does not, and they need the new one from you.
    """
    from infra.content_keys import rotate_content_key
    from infra.key_rotation import rotate_package_key
    from infra.log_rotation import replace_stolen_log_key, rotate_log_key

    if compromised != (reason is not None):
        raise click.UsageError("--compromised and --reason TEXT go together")
    if compromised and name != "log":
        raise click.UsageError(f"--compromised is for the log's key; revoke a {name} key with `groundswell key revoke`")
    home = invocation.open_home()
    actor = invocation.actor(home)
    if name == "package-signing":
        change = rotate_package_key(home.database, home.keys, actor=actor)
    elif name == "content-credentials":
        change = rotate_content_key(home, actor=actor)
    elif reason is not None:
        change = replace_stolen_log_key(home.database, home.keys, reason=reason, actor=actor)
    else:
        change = rotate_log_key(home.database, home.keys, actor=actor)
    _tell(invocation, home, change)


@command.command("revoke", examples=('groundswell key revoke 1a2b3c4d5e6f7890 --reason "the backup disk was stolen"',))
@click.argument("fingerprint", metavar="FINGERPRINT")
@click.option("--reason", metavar="TEXT", required=True, help="Why; the ledger holds a commitment to it, which can be erased.")
@pass_invocation
def revoke(invocation: Invocation, fingerprint: str, reason: str) -> None:
    """Revoke a key by the first digits of its FINGERPRINT; needs an admin.

    What a package-signing key has signed is refused from then on, until it is signed again; if it is the current one, rotate it
    next. Files that a content-credentials key has signed no longer verify by their manifest, and by their digest as before. The
    log's current key is revoked by `key rotate log --compromised`.
    """
    from infra.key_rotation import revoke_key

    home = invocation.open_home()
    actor = invocation.actor(home)
    _tell(invocation, home, revoke_key(home.database, home.keys, digits=fingerprint, reason=reason, actor=actor))


def _tell(invocation: Invocation, home: "Home", change: "KeyChange") -> None:
    from infra.witnesses import publish

    tell_warnings(publish(home.settings.witnesses, change.note))
    key = change.key
    if invocation.as_json:
        echo_json(_document(key))
        return
    facts = [("key", key.name), ("fingerprint", key.fingerprint), ("state", key.state.value)]
    if key.revoked is not None and key.retired is None:
        facts.append(("next", f"{invocation.program} key rotate {key.name}"))
    echo_facts(facts)


def _until(key: "PlatformKey") -> str:
    return format_time(key.revoked or key.retired) if key.revoked or key.retired else ""


def _document(key: "PlatformKey") -> dict[str, Any]:
    return {
        "name": key.name,
        "algorithm": key.algorithm,
        "fingerprint": key.fingerprint,
        "since": key.since,
        "state": key.state.value,
        "retired": key.retired,
        "revoked": key.revoked,
    }
