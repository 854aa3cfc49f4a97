"""`groundswell identity`: who may act."""

from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time, shown_path

if TYPE_CHECKING:
    from governance.identity import Identity

_ROLES = ("data-scientist", "ops", "auditor", "admin")


@click.group(cls=Group, name="identity")
def command() -> None:
    """Create, list and revoke the identities that act.

    The first identity of a home is an admin. Names stand in the ledger only as salted commitments.
    """


@command.command("create", examples=('groundswell identity create "Ada Lovelace" --role data-scientist',))
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), required=True, help="What the identity is for.")
@pass_invocation
def create(invocation: Invocation, name: str, role: str) -> None:
    """Create the identity NAME with a key of its own; needs an admin."""
    from governance.identity import Role
    from infra.identities import create_identity

    home = invocation.open_home(create=True)
    identity = create_identity(home.database, home.keys, name=name, role=Role(role), actor=invocation.actor(home))
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


def _document(identity: "Identity") -> dict[str, Any]:
    return {
        "identity_id": identity.identity_id,
        "name": identity.name,
        "role": identity.role.value,
        "created": identity.created,
        "revoked": identity.revoked,
    }
