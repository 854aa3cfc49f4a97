"""What follows a change of promotion, whatever came of it: the head is signed and goes to the witnesses."""

from typing import TYPE_CHECKING

from groundswell.cli.output import tell_warnings

if TYPE_CHECKING:
    from infra.home import Home


def settle_promotion(home: "Home") -> None:
    """Signs the ledger's head and publishes it; what does not work is a warning, for the change itself is done."""
    from governance.errors import GovernanceError
    from infra.errors import InfraError
    from infra.ledger import sign_checkpoint
    from infra.witnesses import publish

    try:
        tell_warnings(publish(home.settings.witnesses, sign_checkpoint(home.database, home.keys)))
    except (GovernanceError, InfraError) as error:
        tell_warnings([f"the ledger's head was not signed: {error.diagnosis}"])
