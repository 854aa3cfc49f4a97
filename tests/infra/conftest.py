"""A home on each database; a module that needs another defines its own."""

import pytest

from infra.home import Home
from infra.identities import list_identities
from infra.settings import Settings


@pytest.fixture
def home(database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", database_url)
    home = Home.open(Settings.load(tmp_path / "home"))
    yield home
    home.database.close()


@pytest.fixture
def admin(home):
    return list_identities(home.database)[0].identity_id
