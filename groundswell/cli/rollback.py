"""`groundswell rollback`: back to the champion before."""

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json
from groundswell.cli.promoted import settle_promotion


@click.command(
    cls=Command,
    name="rollback",
    examples=('groundswell --as Omar rollback openmoji-dit --in production --reason "six fingers"',),
)
@click.argument("name", metavar="NAME")
@click.option("--in", "environment", metavar="ENVIRONMENT", default="production", show_default=True, help="Where.")
@click.option("--reason", metavar="TEXT", required=True, help="Why; the ledger holds a commitment to it.")
@pass_invocation
def command(invocation: Invocation, name: str, environment: str, reason: str) -> None:
    """Make the champion before the current one of model NAME the champion again, at once; takes ops or an admin.

    It needs no approval, because that version had them; it is recorded. Its package is verified first.
    """
    from infra.promotion.rollback import roll_back

    home = invocation.open_home()
    actor = invocation.actor(home)
    try:
        gone, back = roll_back(home, name, environment, actor=actor, reason=reason)
    finally:
        settle_promotion(home)
    document = {
        "environment": environment,
        "model": f"{back.name}/{back.version}",
        "rolled_back": f"{gone.name}/{gone.version}",
        "request": back.promotion_id,
        "rolled_back_request": gone.promotion_id,
    }
    if invocation.as_json:
        echo_json(document)
        return
    echo_facts(
        [
            ("environment", environment),
            ("champion again", document["model"]),
            ("rolled back", document["rolled_back"]),
            ("request", back.promotion_id),
        ]
    )
