"""Nobody gets around a promotion through an MLflow server that knows nothing of groundswell, by its API or by its pages."""

from dataclasses import replace

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from playwright.sync_api import Page, expect

from infra.promotion.rollback import roll_back
from tests.infra.package_inputs import NAME
from tests.infra.promotion.world import ATTEMPTS
from tests.servers_mlflow import MlflowServer, serve_mlflow

pytestmark = pytest.mark.slow
_PATIENCE_MS = 60_000


@pytest.fixture
def server(world, tmp_path):
    """A server before the world's database, with version 1 in production."""
    world.promote(1)
    with serve_mlflow(world.home.settings.database_url, world.home.settings.artifact_root, tmp_path) as server:
        yield server


def test_its_api_is_refused_with_what_to_do_instead(world, server: MlflowServer):
    client = MlflowClient(server.url, server.url)
    for attempt in ATTEMPTS.values():
        with pytest.raises(MlflowException, match=r"groundswell governs .* use `groundswell promote"):
            attempt(client)
    assert client.get_model_version_by_alias(NAME, "production").version == "1"
    client.set_registered_model_alias(NAME, "best", "2")
    world.promote(2)
    assert client.get_model_version_by_alias(NAME, "production").version == "2"
    roll_back(world.home, NAME, "production", actor=world.people["Omar"], reason="six fingers")
    assert client.get_model_version_by_alias(NAME, "production").version == "1"
    assert world.problems() == ()


def test_its_pages_show_the_champion_and_cannot_replace_it(world, server: MlflowServer, page: Page):
    page.set_default_timeout(_PATIENCE_MS)
    page.goto(f"{server.url}/#/models/{NAME}")
    champion = page.get_by_role("row").filter(has_text="Version 1")
    expect(champion).to_contain_text("production", timeout=_PATIENCE_MS)

    page.goto(f"{server.url}/#/models/{NAME}/versions/2")
    page.get_by_role("button", name="Add", exact=True).first.click()
    dialog = page.get_by_role("dialog").filter(has_text="alias for model version 2")
    dialog.get_by_role("combobox").fill("production")
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("groundswell governs this alias: use `groundswell promote request", timeout=_PATIENCE_MS)
    assert world.alias() == 1
    assert world.problems() == ()


def test_a_server_that_is_down_holds_no_promotion_up(world):
    settings = replace(world.home.settings, mlflow_tracking_uri="http://127.0.0.1:9")
    away = replace(world, home=replace(world.home, settings=settings))
    away.promote(1)
    away.promote(2)
    roll_back(away.home, NAME, "production", actor=away.people["Omar"], reason="six fingers")
    assert world.alias() == 1
    assert world.problems() == ()
