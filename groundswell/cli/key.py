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
    from infra.keys import LOG_KEY, PACKAGE_KEY
    from infra.platform_keys import key_history

    home = invocation.open_home()
    with home.database.read() as connection:
        keys = [key for name in (LOG_KEY, PACKAGE_KEY) for key in key_history(connection, name).keys]
    if invocation.as_json:
        echo_json({"keys": [_document(key) for key in keys]})
        return
    rows = [
        (key.name, key.algorithm, key.fingerprint[:_SHOWN_DIGITS], format_time(key.since), key.state.value, _until(key))
        for key in keys
    ]
    echo_table(("key", "algorithm", "fingerprint", "since (UTC)", "state", "until (UTC)"), rows, state_column=4)


@command.command("rotate", examples=("groundswell key rotate package-signing",))
@click.argument("name", metavar="NAME", type=click.Choice(["package-signing"]))
@pass_invocation
def rotate(invocation: Invocation, name: str) -> None:  # noqa: ARG001 - there is one such key
    """Make a new key NAME (package-signing) in the place of the current one; needs an admin.

    What the old key has signed stays valid. Its private half is removed, its public one kept.
    """
    from infra.key_rotation import rotate_package_key

    home = invocation.open_home()
    _tell(invocation, home, rotate_package_key(home.database, home.keys, actor=invocation.actor(home)))


@command.command("revoke", examples=('groundswell key revoke 1a2b3c4d5e6f7890 --reason "the backup disk was stolen"',))
@click.argument("fingerprint", metavar="FINGERPRINT")
@click.option("--reason", metavar="TEXT", required=True, help="Why; the ledger holds a commitment to it, which can be erased.")
@pass_invocation
def revoke(invocation: Invocation, fingerprint: str, reason: str) -> None:
    """Revoke a package-signing key by the first digits of its FINGERPRINT; needs an admin.

    What it has signed is refused from then on, until it is signed again. If it is the current key, rotate it next.
    """
    from infra.key_rotation import revoke_package_key

    home = invocation.open_home()
    actor = invocation.actor(home)
    _tell(invocation, home, revoke_package_key(home.database, home.keys, digits=fingerprint, reason=reason, actor=actor))


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
