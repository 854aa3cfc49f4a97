"""What requests share."""

import threading
from dataclasses import dataclass, field

from starlette.requests import Request

from groundswell.console.security import Access
from infra.home import Home
from infra.monitoring.platform_metrics import PlatformMetrics
from infra.monitoring.served_models import ServedModels


@dataclass(frozen=True, kw_only=True)
class State:
    """What a running console has.

    Attributes:
        home: The home.
        access: Who may do what.
        served: Verifies what is served.
        metrics: Computes the metrics.
        at_work: Held while a lineage report is made: each verifies the whole ledger, so one at a time.
    """

    home: Home
    access: Access
    served: ServedModels
    metrics: PlatformMetrics
    at_work: threading.Lock = field(default_factory=threading.Lock)


def state_of(request: Request) -> State:
    """Returns what a request's application has."""
    found = request.app.state.console
    if not isinstance(found, State):
        raise TypeError("the application was made without a state")
    return found
