"""`groundswell identity`: who may act."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.identity_token import token
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time, shown_path

if TYPE_CHECKING:
    from governance.identity import Identity
    from infra.home import Home

_ROLES = ("data-scientist", "ops", "auditor", "admin")


@click.group(cls=Group, name="identity")
def command() -> None:
    """Create, list and revoke the identities that act, and protect their keys.

    The first identity of a home is an admin. Names stand in the ledger only as salted commitments.
    """


@command.command("create", examples=('groundswell identity create "Ada Lovelace" --role data-scientist',))
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), required=True, help="What the identity is for.")
@click.option("--passphrase", is_flag=True, help="Encrypt the private key with a passphrase, which is asked for.")
@pass_invocation
def create(invocation: Invocation, name: str, role: str, passphrase: bool) -> None:
    """Create the identity NAME with a key of its own; needs an admin.

    Without a terminal the passphrase is read from the file that GROUNDSWELL_PASSPHRASE_FILE names.
    """
    from governance.identity import Role
    from infra.identities import create_identity
    from infra.passphrases import ask_new_passphrase

    home = invocation.open_home(create=True)
    actor = invocation.actor(home)
    secret = ask_new_passphrase(f"the private key of {name}") if passphrase else None
    identity = create_identity(home.database, home.keys, name=name, role=Role(role), actor=actor, passphrase=secret)
    key = home.keys.private_path(identity.identity_id)
    if invocation.as_json:
        echo_json({**_document(identity), "private_key": key})
        return
    echo_facts(
        [
            ("identity", identity.identity_id),
            ("name", identity.name),
            ("role", identity.role.value),
            ("private key", shown_path(key)),
            ("acts with", f"groundswell --as {identity.identity_id} ..."),
        ]
    )


@command.command("list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List all identities, oldest first, revoked ones too."""
    from infra.identities import list_identities

    identities = list_identities(invocation.open_home().database)
    if invocation.as_json:
        echo_json({"identities": [_document(identity) for identity in identities]})
        return
    rows = [
        (
            identity.identity_id,
            identity.role.value,
            "active" if identity.is_active else "revoked",
            format_time(identity.created),
            identity.name or "(erased)",
        )
        for identity in identities
    ]
    echo_table(("identity", "role", "state", "created (UTC)", "name"), rows, state_column=2)


@command.command("revoke")
@click.argument("identity", metavar="IDENTITY")
@pass_invocation
def revoke(invocation: Invocation, identity: str) -> None:
    """Revoke IDENTITY, an id or a name: it may not act again, and what it did stays; needs an admin."""
    from infra.identities import find_identity, revoke_identity

    home = invocation.open_home()
    target = find_identity(home.database, identity)
    revoked = revoke_identity(home.database, identity_id=target.identity_id, actor=invocation.actor(home))
    if invocation.as_json:
        echo_json(_document(revoked))
    else:
        click.echo(f"identity {revoked.identity_id} revoked")


@command.command("passphrase", examples=("groundswell identity passphrase Ada", "groundswell identity passphrase Ada --remove"))
@click.argument("identity", metavar="IDENTITY")
@click.option("--remove", is_flag=True, help="Leave the private key without a passphrase.")
@click.option(
    "--new-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A file with the new passphrase, for its owner only; otherwise it is asked for.",
)
@pass_invocation
def passphrase(invocation: Invocation, identity: str, remove: bool, new_file: Path | None) -> None:
    """Set, change or remove the passphrase of the private key of IDENTITY, an id or a name.

    Without a terminal the present passphrase, or the first one, is read from the file that GROUNDSWELL_PASSPHRASE_FILE names.
    """
    from infra.identities import find_identity

    if remove and new_file is not None:
        raise click.UsageError("--remove and --new-file exclude each other")
    home = invocation.open_home()
    identity_id = find_identity(home.database, identity).identity_id
    home.keys.set_passphrase(identity_id, None if remove else _new_passphrase(home, identity_id, new_file))
    if invocation.as_json:
        echo_json({"identity_id": identity_id, "has_passphrase": not remove})
    else:
        click.echo(f"the private key of {identity_id} has {'no' if remove else 'a new'} passphrase")


command.add_command(token)


def _new_passphrase(home: "Home", identity_id: str, file: Path | None) -> bytes:
    from infra.passphrases import ask_new_passphrase, read_passphrase, require_terminal

    has_one = home.keys.has_passphrase(identity_id)
    home.keys.person_private_key(identity_id)  # asks for the present passphrase before the new one
    if file is not None:
        return read_passphrase(file)
    if has_one:
        require_terminal("name a file with the new passphrase: --new-file FILE")
    return ask_new_passphrase(f"private key {identity_id}")


def _document(identity: "Identity") -> dict[str, Any]:
    return {
        "identity_id": identity.identity_id,
        "name": identity.name,
        "role": identity.role.value,
        "created": identity.created,
        "revoked": identity.revoked,
    }
