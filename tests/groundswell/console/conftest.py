"""Consoles on homes with versions, promotions and runs."""

from collections.abc import Iterator

import pytest

from infra.identities import list_identities
from tests.console_server import Console, serving
from tests.infra.promotion.conftest import postgres_template, sqlite_template, world  # noqa: F401 - fixtures
from tests.infra.promotion.world import World


@pytest.fixture
def console(home) -> Iterator[Console]:
    """A console on a new home, open to read."""
    with serving(home) as server:
        yield server


@pytest.fixture
def world_console(world: World) -> Iterator[Console]:  # noqa: F811
    """A console on a home with three versions, on each database."""
    with serving(world.home) as server:
        yield server


@pytest.fixture
def admin(home) -> str:
    return list_identities(home.database)[0].identity_id
