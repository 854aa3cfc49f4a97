"""What is to be told to others about promotion: written in the unit of work that it is about, delivered after it."""

from sqlalchemy import insert

from governance.canonical import canonical_text
from governance.promotion.state import Promotion
from infra.database import UnitOfWork
from infra.tables import outbox


def post(uow: UnitOfWork, kind: str, promotion: Promotion, *, actor: str) -> None:
    """Writes a message about a request, to be delivered once the unit of work is committed."""
    payload = {
        "type": kind,
        "time": uow.time,
        "actor": actor,
        "request": promotion.promotion_id,
        "model": f"{promotion.name}/{promotion.version}",
        "root_digest": promotion.root_digest,
        "environment": promotion.environment,
        "state": promotion.state.value,
        "expires": promotion.expires,
    }
    uow.connection.execute(
        insert(outbox).values(
            kind=kind,
            payload=canonical_text(payload),
            created=uow.time,
            attempts=0,
            next_attempt=uow.time,
            delivered_to="[]",
            delivered=None,
        )
    )
