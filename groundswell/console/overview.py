"""The first page: what is served, what waits for somebody, what runs, and how the ledger stands."""

from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import Response

from governance.ledger import format_time
from groundswell.console.rendering import render, seconds_between
from groundswell.console.state import state_of
from infra.ledger import ledger_size
from infra.promotion.status import overview
from infra.runs import list_runs
from infra.tables import ledger_checkpoints

_NUM_RUNS = 8


def overview_page(request: Request) -> Response:
    """Shows what somebody who comes by wants to know first."""
    state = state_of(request)
    state.access.require_reader(request)
    database = state.home.database
    standing = overview(database, now=format_time(database.now()))
    with database.read() as connection:
        runs = list_runs(connection, _NUM_RUNS)
        size = ledger_size(connection)
        signed = connection.execute(select(func.max(ledger_checkpoints.c.size), func.max(ledger_checkpoints.c.time))).one()
    values = {
        "champions": standing["champions"],
        "open": standing["open"],
        "runs": [(run, seconds_between(run.started, run.ended)) for run in runs],
        "size": size,
        "unsigned": max(0, size - (signed[0] or 0)),
        "signed_at": signed[1],
        "refused": [(one, verdict) for one, verdict in sorted(state.served.verdicts().items()) if not verdict.is_verified],
    }
    return render(request, "overview.html.j2", values)
