"""A home on each database; a module that needs another defines its own."""

import pytest

from infra.home import Home
from infra.identities import list_identities
from infra.settings import Settings
from tests.infra.traced_world import World


@pytest.fixture
def home(database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", database_url)
    home = Home.open(Settings.load(tmp_path / "home"))
    yield home
    home.database.close()


@pytest.fixture
def admin(home):
    return list_identities(home.database)[0].identity_id


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A synthetic home for reports, the same on either engine."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").create_database()
    return World(tmp_path_factory.mktemp("home"), url=url)
