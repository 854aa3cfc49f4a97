"""What follows a change of promotion, whatever came of it: the head is signed, others are told, metrics are written."""

from typing import TYPE_CHECKING

from groundswell.cli.output import tell_warnings

if TYPE_CHECKING:
    from infra.home import Home

_BUDGET_S = 3.0


def settle_promotion(home: "Home") -> None:
    """Signs the ledger's head and publishes it, delivers messages, and writes metrics.

    What does not work is a warning, for the change itself is done: a head is signed with the next, messages wait.
    """
    from governance.errors import GovernanceError
    from infra.errors import InfraError
    from infra.ledger import sign_checkpoint
    from infra.promotion.delivery import deliver_waiting
    from infra.promotion.metrics import write_promotion_metrics
    from infra.witnesses import publish

    try:
        tell_warnings(publish(home.settings.witnesses, sign_checkpoint(home.database, home.keys)))
        tell_warnings(deliver_waiting(home, budget_s=_BUDGET_S).problems)
        write_promotion_metrics(home)
    except (GovernanceError, InfraError) as error:
        tell_warnings([f"the change is recorded, but not all that follows it was done: {error.diagnosis}"])
