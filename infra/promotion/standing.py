"""Why a model version is a champion now: the requests that made it so, and who approved them."""

from sqlalchemy import Connection, select

from governance.credentials.claim import PromotedBy
from infra.promotion.records import find_promotion
from infra.tables import champions


def standing_of(connection: Connection, *, name: str, version: int, root_digest: str, now: str) -> tuple[PromotedBy, ...]:
    """Returns where a version is champion and has not lapsed, by environment; empty where it is none.

    Args:
        connection: An open connection.
        name: The model's name.
        version: Its version.
        root_digest: The root digest of the version's package.
        now: The time, RFC 3339 UTC with microseconds.
    """
    columns = champions.c
    query = select(columns.environment, columns.promotion_id).where(
        columns.name == name, columns.version == version, columns.root_digest == root_digest, columns.expires > now
    )
    return tuple(
        PromotedBy(
            environment=row.environment,
            promotion_id=row.promotion_id,
            approvers=find_promotion(connection, row.promotion_id).approvers,
        )
        for row in connection.execute(query.order_by(columns.environment))
    )
