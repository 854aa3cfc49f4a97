"""The application: which address is answered by what."""

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route

import groundswell
from governance.errors import GovernanceError
from groundswell.console import health, lineage_api, models, overview, records, runs
from groundswell.console.problems import HANDLERS
from groundswell.console.rendering import style
from groundswell.console.security import Access, SecurityHeaders
from groundswell.console.state import State
from infra.errors import InfraError
from infra.home import Home
from infra.monitoring.platform_metrics import PlatformMetrics
from infra.monitoring.served_models import ServedModels

_ROUTES = (
    Route("/", overview.overview_page),
    Route("/runs", runs.runs_page),
    Route("/runs/{run_id}", runs.run_page),
    Route("/models", models.models_page),
    Route("/models/{name}/{version:int}", models.version_page),
    Route("/models/{name}/{version:int}/{picture}", models.picture),
    Route("/lineage", records.lineage_page),
    Route("/audit", records.audit_page),
    Route("/audit/{index}", records.entry_page),
    Route("/checkpoint", records.checkpoint),
    Route("/style.css", style),
    Route("/healthz", health.live),
    Route("/readyz", health.ready),
    Route("/metrics", health.metrics),
    Route("/api/v1/lineage", lineage_api.post_lineage, methods=["POST"]),
)


def create_app(home: Home, *, takes_token: bool, hosts: Sequence[str] = ("*",)) -> SecurityHeaders:
    """Returns the application for a home.

    Args:
        home: The home.
        takes_token: Whether reading takes a token.
        hosts: Under which names it may be asked: a page of elsewhere cannot reach a service on this machine by a name of its own.
    """
    served = ServedModels(home)
    metrics = PlatformMetrics(home, served, version=groundswell.__version__)

    def count() -> None:
        with suppress(InfraError, GovernanceError):  # the first scrape tells of an outage
            metrics.render()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - Starlette's signature
        served.start()
        threading.Thread(target=count, name="first-count", daemon=True).start()  # so that no scrape has to wait for it
        yield
        served.stop()

    app = Starlette(
        routes=_ROUTES,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    access = Access(home, takes_token)
    app.state.console = State(home=home, access=access, served=served, metrics=metrics)
    return SecurityHeaders(app)
