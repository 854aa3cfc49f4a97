"""A home with versions to promote, on each database; made once, copied for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.home import Home
from tests.infra.promotion.world import World, fill, open_world, settings_of


@pytest.fixture(scope="session")
def sqlite_template(home_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("promotion") / "home"
    shutil.copytree(home_template, folder)
    home = Home.open(settings_of(folder, f"sqlite:///{folder}/groundswell.db"))
    fill(home, tmp_path_factory.mktemp("packages"))
    home.database.close()
    return folder


@pytest.fixture(scope="session")
def postgres_template(postgres, postgres_home_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("promotion") / "home"
    url = postgres.create_database(template=postgres_home_template)
    home = Home.open(settings_of(folder, url))
    fill(home, tmp_path_factory.mktemp("packages"))
    home.database.close()
    with postgres.connect(url) as connection:  # MLflow keeps its own open
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    return folder, url


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The home on each database."""
    folder = tmp_path / "home"
    if request.param == "sqlite":
        world = open_world(request.getfixturevalue("sqlite_template"), folder, f"sqlite:///{folder}/groundswell.db")
        yield world
        world.home.database.close()
        return
    template, template_url = request.getfixturevalue("postgres_template")
    server = request.getfixturevalue("postgres")
    url = server.create_database(template=template_url)
    world = open_world(template, folder, url)
    yield world
    world.home.database.close()
    server.drop_database(url)
