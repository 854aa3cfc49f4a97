"""Whether the service lives, and whether it can do its work; and the metrics."""

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import groundswell
from governance.errors import GovernanceError
from groundswell.console.state import state_of
from infra.errors import InfraError
from infra.schema import HEAD, read_revision


async def live(request: Request) -> Response:  # noqa: ARG001 - the router's signature
    """Answers as long as the process does; asks nobody, so that an outage elsewhere restarts nothing."""
    return JSONResponse({"status": "alive", "version": groundswell.__version__})


def ready(request: Request) -> Response:
    """Answers 200 if the database can be read and has the schema that this program is for, otherwise 503 with the reason."""
    state = state_of(request)
    database = state.home.database
    try:
        with database.read() as connection:
            revision = read_revision(connection, database.name)
    except (InfraError, GovernanceError) as error:
        if state.access.takes_token:  # whoever asks has shown none: where the database is is not theirs to know
            return _unready("the database cannot be read", "the console's log says more, and `groundswell doctor`")
        return _unready(error.diagnosis, error.hint)
    if revision != HEAD:
        problem = f"the database has schema {revision or 'none'}, this program is for {HEAD}"
        return _unready(problem, "restart the service with the version that the database was brought to")
    return JSONResponse({"status": "ready", "schema": HEAD})


def metrics(request: Request) -> Response:
    """Answers with all metrics, as they are in the database now."""
    state = state_of(request)
    state.access.require_reader(request)
    return Response(state.metrics.render(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _unready(problem: str, hint: str) -> Response:
    return JSONResponse({"status": "unready", "error": problem, "hint": hint}, 503, headers={"Retry-After": "5"})
