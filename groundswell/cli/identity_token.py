"""`groundswell identity token`: what programs and browsers show to the console."""

from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time

if TYPE_CHECKING:
    from governance.access_token import AccessToken

_SCOPES = ("read", "lineage")


@click.group(cls=Group, name="token")
def token() -> None:
    """Create, list and revoke tokens that act as an identity at the console.

    A token is shown once, when it is created. The ledger holds the hash of it, who may act with it, for what and until when.
    """


@token.command(
    "create",
    examples=(
        "groundswell identity token create Prometheus --for read --days 365",
        "groundswell --as Ada identity token create Ada --for lineage",
    ),
)
@click.argument("identity", metavar="IDENTITY")
@click.option(
    "--for", "scopes", type=click.Choice(_SCOPES), multiple=True, required=True, help="What it is good for; may be repeated."
)
@click.option("--days", type=click.IntRange(1, 3660), default=90, show_default=True, help="How long it is good.")
@pass_invocation
def create(invocation: Invocation, identity: str, scopes: tuple[str, ...], days: int) -> None:
    """Create a token for IDENTITY, an id or a name; needs that identity itself, or an admin."""
    from governance.access_token import Scope
    from infra.access_tokens import create_token
    from infra.identities import find_identity

    home = invocation.open_home()
    owner = find_identity(home.database, identity).identity_id
    made, text = create_token(
        home.database,
        identity_id=owner,
        scopes={Scope(one) for one in scopes},
        days=days,
        actor=invocation.actor(home),
    )
    if invocation.as_json:
        echo_json({**_document(made), "token": text})
        return
    echo_facts(
        [
            ("token", text),
            ("id", made.token_id),
            ("acts as", made.identity_id),
            ("good for", ", ".join(made.scopes)),
            ("until", f"{format_time(made.expires)} UTC"),
        ]
    )
    click.echo("keep it now: it is not shown again", err=True)


@token.command("list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List all tokens, oldest first, those that are over too."""
    from governance.ledger import format_time as ledger_time
    from infra.access_tokens import list_tokens

    home = invocation.open_home()
    tokens, now = list_tokens(home.database), ledger_time(home.database.now())
    if invocation.as_json:
        echo_json({"tokens": [_document(one) for one in tokens]})
        return
    rows = [
        (
            one.token_id,
            one.identity_id,
            ", ".join(one.scopes),
            "revoked" if one.revoked else "active" if one.is_alive(now) else "expired",
            format_time(one.expires),
        )
        for one in tokens
    ]
    echo_table(("token", "identity", "good for", "state", "until (UTC)"), rows, state_column=3)


@token.command("revoke")
@click.argument("token_id", metavar="TOKEN")
@pass_invocation
def revoke(invocation: Invocation, token_id: str) -> None:
    """Revoke the token with the id TOKEN; needs its identity, or an admin."""
    from infra.access_tokens import revoke_token

    home = invocation.open_home()
    revoked = revoke_token(home.database, token_id=token_id, actor=invocation.actor(home))
    if invocation.as_json:
        echo_json(_document(revoked))
    else:
        click.echo(f"token {revoked.token_id} revoked")


def _document(one: "AccessToken") -> dict[str, Any]:
    return {
        "token_id": one.token_id,
        "identity_id": one.identity_id,
        "for": list(one.scopes),
        "created": one.created,
        "expires": one.expires,
        "revoked": one.revoked,
    }
