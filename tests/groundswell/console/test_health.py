"""Whether the service lives and is ready, also while its database is away."""

import threading

from sqlalchemy import update

from infra.home import Home
from infra.schema import HEAD
from infra.tables import schema_version
from tests.console_server import Console, serving
from tests.infra.promotion.world import settings_of
from tests.servers import PostgresServer


def test_a_console_says_that_it_lives_and_is_ready(console: Console) -> None:
    assert console.get("/healthz").document["status"] == "alive"
    ready = console.get("/readyz")
    assert (ready.status, ready.document) == (200, {"status": "ready", "schema": HEAD})


def test_a_schema_of_another_version_is_not_ready(home: Home, console: Console) -> None:
    with home.database.unit_of_work() as uow:
        uow.connection.execute(update(schema_version).values(version_num="9999"))
    ready = console.get("/readyz")
    assert ready.status == 503
    assert ready.document["error"] == f"the database has schema 9999, this program is for {HEAD}"
    assert console.get("/healthz").status == 200


def test_a_database_that_goes_away_is_told_in_one_line_and_comes_back(postgres: PostgresServer, tmp_path) -> None:
    url = postgres.create_database()
    home = Home.open(settings_of(tmp_path / "home", url))
    with serving(home) as console:
        assert console.get("/metrics").status == 200
        port = postgres.port
        postgres.stop(crash=True)
        try:
            scraped = console.get("/metrics")
            assert (scraped.status, scraped.headers["retry-after"]) == (503, "5")
            assert scraped.text.count("\n") == 1
            assert scraped.text.startswith("database postgresql://127.0.0.1:")
            assert "Traceback" not in scraped.text
            assert console.get("/readyz").status == 503
            assert console.get("/healthz").status == 200
            page = console.get("/runs", accept="text/html")
            assert (page.status, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
            posted = console.post("/api/v1/lineage", {}, token="gsw_000000000000_" + 64 * "0")
            assert (posted.status, list(posted.document)) == (503, ["error", "hint"])
        finally:
            postgres.start()
        assert postgres.port == port
        assert console.get("/metrics").status == 200
        assert console.get("/readyz").status == 200
    home.database.close()
    postgres.drop_database(url)


def test_scrapes_at_the_same_time_are_all_answered(console: Console) -> None:
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(console.get("/metrics").status)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 12
