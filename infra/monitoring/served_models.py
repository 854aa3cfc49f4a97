"""Whether what aliases name may be served: each package is verified again and again beside the service's other work."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, column, func, inspect, select, table

from governance.errors import GovernanceError
from infra.errors import InfraError
from infra.home import Home
from infra.model_versions import find_version, open_version
from infra.monitoring.catalogue import Families
from infra.tables import withdrawals
from infra.withdrawal_reach import num_withdrawn, withdrawals_reaching

_ALIASES = table("registered_model_aliases", column("name"), column("alias"), column("version"))
_INTERVAL_S = 300.0


@dataclass(frozen=True, kw_only=True, order=True)
class Served:
    """What an alias names."""

    name: str
    environment: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verifying it came to.

    Attributes:
        is_verified: Whether it is registered, whole and signed by a key that counts.
        problem: Why not, in one line.
        withdrawn: How many withdrawn items are in the data behind it.
        checked: Seconds since the epoch.
    """

    is_verified: bool
    problem: str
    withdrawn: int
    checked: float


class ServedModels:
    """Verifies served packages in a thread of its own.

    Args:
        home: The home.
        interval_s: How often each is verified.
    """

    def __init__(self, home: Home, *, interval_s: float = _INTERVAL_S) -> None:
        self._home = home
        self._interval_s = interval_s
        self._verdicts: Mapping[Served, Verdict] = {}
        self._wake = threading.Event()
        self._is_over = False
        self._withdrawals = (0, "")

    def start(self) -> None:
        """Begins to verify."""
        threading.Thread(target=self._run, name="served-models", daemon=True).start()

    def stop(self) -> None:
        """Ends it after the package that is being verified."""
        self._is_over = True
        self._wake.set()

    def verdicts(self) -> Mapping[Served, Verdict]:
        """Returns what is known so far."""
        return self._verdicts

    def verify_all(self) -> None:
        """Verifies everything that is served now.

        Raises:
            BackendUnavailableError: The database cannot be read.
        """
        with self._home.database.read() as connection:
            served, withdrawn = served_models(connection), _withdrawals(connection)
        known = self._verdicts
        found = {one: self._verify(one) for one in served}
        self._verdicts = {one: new if new is not None else known[one] for one, new in found.items() if new or one in known}
        self._withdrawals = withdrawn

    def add_to(self, families: Families, connection: Connection) -> None:
        """Adds what is known; what is not known yet, or may have changed since, is verified soon."""
        served = served_models(connection)
        known = self._verdicts
        for one in served:
            if (verdict := known.get(one)) is None:
                continue
            labels = (one.name, one.environment, one.version)
            families.add("groundswell_served_model_verified", float(verdict.is_verified), *labels)
            families.add("groundswell_served_model_checked_timestamp_seconds", verdict.checked, *labels)
            families.add("groundswell_served_model_withdrawn_items", verdict.withdrawn, *labels)
        if any(one not in known for one in served) or _withdrawals(connection) != self._withdrawals:
            self._wake.set()

    def _run(self) -> None:
        while not self._is_over:
            with suppress(InfraError, GovernanceError):  # the scrape tells of an outage
                self.verify_all()
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def _verify(self, served: Served) -> Verdict | None:
        """Returns None where a backend that is away leaves it open."""
        withdrawn = 0
        try:
            version = find_version(self._home.database, f"{served.name}/{served.version}")
            with self._home.database.read() as connection:
                withdrawn = num_withdrawn(connection, withdrawals_reaching(connection, version.subject))
            open_version(version, self._home.package_keys, self._home.package_cache)
        except (GovernanceError, OSError) as error:
            problem = str(getattr(error, "diagnosis", error))
            return Verdict(is_verified=False, problem=problem, withdrawn=withdrawn, checked=time.time())
        except InfraError:
            return None
        return Verdict(is_verified=True, problem="", withdrawn=withdrawn, checked=time.time())


def served_models(connection: Connection) -> list[Served]:
    """Returns what MLflow's aliases name, whoever set them."""
    if not inspect(connection).has_table(_ALIASES.name):
        return []
    rows = connection.execute(select(_ALIASES.c.name, _ALIASES.c.alias, _ALIASES.c.version))
    return sorted(Served(name=row.name, environment=row.alias, version=str(row.version)) for row in rows)


def _withdrawals(connection: Connection) -> tuple[int, str]:
    count, last = connection.execute(select(func.count(), func.max(withdrawals.c.created))).one()
    return int(count), str(last or "")
