"""`groundswell notify`: tells the webhooks what waits for them, and writes the metrics of promotion."""

import time
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, tell_warnings
from groundswell.cli.problem import EXIT_UNAVAILABLE
from groundswell.cli.stopping import terminate_as_interrupt

if TYPE_CHECKING:
    from infra.home import Home
    from infra.promotion.delivery import Delivery

_BUDGET_S = 60.0


@click.command(cls=Command, name="notify", examples=("groundswell notify", "groundswell notify --every 30"))
@click.option(
    "--every",
    "every_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Stay, and look so often; until SIGTERM or ctrl-C.",
)
@pass_invocation
def command(invocation: Invocation, every_s: float | None) -> int:
    """Send the webhooks of the settings what waits for them about promotions, and end requests whose time is over.

    Every change of promotion tries that for some seconds; this is for what could not be delivered then. The exit code is 6 if
    something still waits because a webhook failed. The metrics of promotion are written anew each time.
    """
    home = invocation.open_home()
    if every_s is None:
        return _tell(invocation, _notify(home))
    with terminate_as_interrupt():
        while True:
            _tell(invocation, _notify(home))
            time.sleep(every_s)


def _notify(home: "Home") -> "Delivery":
    from infra.promotion.approvals import settle
    from infra.promotion.delivery import deliver_waiting
    from infra.promotion.metrics import write_promotion_metrics

    settle(home.database)
    delivery = deliver_waiting(home, budget_s=_BUDGET_S)
    write_promotion_metrics(home)
    return delivery


def _tell(invocation: Invocation, delivery: "Delivery") -> int:
    exit_code = EXIT_UNAVAILABLE if delivery.problems else 0
    tell_warnings(delivery.problems)
    if invocation.as_json:
        echo_json(
            {
                "delivered": delivery.delivered,
                "waiting": delivery.waiting,
                "given_up": delivery.given_up,
                "problems": list(delivery.problems),
                "exit_code": exit_code,
            }
        )
    else:
        echo_facts([("delivered", delivery.delivered), ("waiting", delivery.waiting), ("given up", delivery.given_up)])
    return exit_code
