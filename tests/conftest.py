"""What tests of several rooms share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from infra.database import Database
from infra.home import Home
from infra.settings import Settings
from tests.servers import PostgresServer, postgres_server

hypothesis.settings.load_profile("ci")  # the same examples each time, and no limit that a busy machine passes
pytest_plugins = ["tests.servers_s3", "tests.servers_mlflow", "tests.backups", "tests.browser", "tests.lone_python"]


@pytest.fixture(scope="session")
def home_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with MLflow's tables made; making them takes seconds, so tests copy it."""
    from infra.mlflow_client import initialise_mlflow

    folder = tmp_path_factory.mktemp("template") / "home"
    home = Home.open(Settings.load(folder))
    initialise_mlflow(home.settings.mlflow_tracking_uri, home.settings.artifact_root)
    home.database.close()
    return folder


@pytest.fixture
def home(home_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of the test's own, complete with MLflow's tables."""
    for name in ("GROUNDSWELL_HOME", "GROUNDSWELL_DATABASE_URL", "GROUNDSWELL_MLFLOW_URI", "GROUNDSWELL_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    shutil.copytree(home_template, folder)
    return Home.open(Settings.load(folder))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test process; skips where none is installed."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of the test's own; the test runs once on each engine."""
    return f"sqlite:///{tmp_path / 'groundswell.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def postgres_home_template(postgres: PostgresServer) -> str:
    """The URL of a PostgreSQL database with our tables and MLflow's; making them takes seconds, so tests copy it."""
    from infra.mlflow_client import initialise_mlflow

    url = postgres.create_database()
    Database.open(url).close()
    initialise_mlflow(url, "mlartifacts")
    return url


@pytest.fixture
def postgres_home_url(postgres: PostgresServer, postgres_home_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL database of the test's own, complete with MLflow's tables."""
    url = postgres.create_database(template=postgres_home_template)
    yield url
    postgres.drop_database(url)
