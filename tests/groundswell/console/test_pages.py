"""The pages in a real browser, at the widths of a desktop and of a phone, on homes with something in them."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from infra.home import Home
from infra.ledger import sign_checkpoint
from infra.progress import ProgressFile
from infra.run_records import begin_run
from infra.settings import Settings
from infra.tables import steps
from tests.console_server import Console, serving
from tests.infra.package_inputs import NAME
from tests.infra.promotion.world import RUN, World
from tests.infra.traced_world import FAILED, HOSTILE
from tests.infra.traced_world import World as Traced
from tests.monitored_world import package_of_its_own

WIDTHS = [390, 1200]


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> Iterator[tuple[Traced, Console]]:
    folder = tmp_path_factory.mktemp("traced")
    world = Traced(folder, name=HOSTILE)
    home = Home.open(Settings.load(folder))
    sign_checkpoint(home.database, home.keys)
    (home.run_folder(FAILED) / "logs").mkdir(parents=True)
    (home.run_folder(FAILED) / "logs" / "train_dit.log").write_text(f"last words {HOSTILE}\n")
    (home.run_folder(FAILED) / "logs" / "passwords.log").symlink_to("/etc/passwd")
    with serving(home) as console:
        yield world, console


def addresses(console: Console) -> list[str]:
    return ["/", "/runs", f"/runs/{FAILED}", "/models", "/lineage", "/audit", "/audit/0", "/nope"]


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_their_screen_run_nothing_and_ask_nobody_else(
    browser: Browser, traced: tuple[Traced, Console], width: int
) -> None:
    console = traced[1]
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    asked, told = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: told.append(message.text))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    for path in addresses(console):
        page.goto(console.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
        assert page.locator("script").count() == 0
        assert page.locator("h1").count() == 1
        assert page.locator("nav a").count() == 5
    context.close()
    assert all(url.startswith((console.url, "data:")) for url in asked)
    assert [text for text in told if "404" not in text] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_version_and_the_report_of_its_lineage_fit_their_screen(
    browser: Browser, world: World, world_console: Console, width: int
) -> None:
    world.promote(1)
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    for path in (f"/models/{NAME}/1", "/lineage?" + urlencode({"subject": f"model-version:{NAME}/1"})):
        answer = page.goto(world_console.url + path)
        assert answer is not None
        assert answer.status == 200
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
        assert page.locator("script").count() == 0
    context.close()


def test_what_comes_from_records_is_text(browser: Browser, traced: tuple[Traced, Console]) -> None:
    world, console = traced
    page = browser.new_page()
    page.goto(f"{console.url}/runs/{FAILED}")
    assert "last words <script>alert('x')</script>" in page.locator("details", has_text="train_dit").inner_text()
    assert page.locator("details", has_text="passwords").count() == 0  # a link out of the folder
    page.goto(f"{console.url}/lineage?subject=dataset:{world.digests['dataset']}")
    assert "<script>alert('x')</script>" in page.locator("body").inner_text()
    assert page.locator("script").count() == 0
    page.close()


def test_a_lineage_report_is_found_by_its_form_and_never_by_a_path(browser: Browser, traced: tuple[Traced, Console]) -> None:
    world, console = traced
    page = browser.new_page()
    page.goto(f"{console.url}/lineage")
    page.get_by_role("textbox").fill(FAILED[:9])
    page.get_by_role("button").click()
    assert "lineage report" in page.locator(".eyebrow").inner_text()
    page.close()
    for path in (str(world.home / "data"), "/etc/passwd", "../../etc/passwd", "x" * 700, "\0", "model-version:x/1"):
        answer = console.get("/lineage?" + urlencode({"subject": path}))
        assert (answer.status, "SHA-256" in answer.text) == (404, False), path


@pytest.mark.parametrize(
    "path",
    [
        *("/runs/..%2F..%2Fkeys", "/runs/abcdef", "/models/..%2f..%2fkeys/1", "/models/x/99999999999999", "/audit/99999999"),
        *("/audit/x", "/audit?before=-1", "/models/x/1/..%2f..%2fconfig.json", "/static/../keys"),
    ],
)
def test_names_that_are_not_on_record_are_not_found(traced: tuple[Traced, Console], path: str) -> None:
    answer = traced[1].get(path, accept="text/html")
    assert answer.status == 404
    assert "<h1>" in answer.text
    assert traced[1].get(path, accept="application/json").document["error"]


def test_a_version_is_shown_once_it_is_verified_with_who_approved_it(world: World, world_console: Console) -> None:
    world.promote(1)
    page = world_console.get(f"/models/{NAME}/1").text
    assert "ModelVersion(" not in page
    assert "Verified: " in page
    assert '<span class="tag good">production</span>' in page
    assert '<td class="words">Olga, ' in page
    assert '<h2>Model card</h2>\n<div class="markdown"><h1>' in page
    assert f'<a href="/models/{NAME}/1">' in world_console.get("/models").text
    grid = world_console.get(f"/models/{NAME}/1/samples.png")
    assert (grid.status, grid.headers["content-type"], grid.body[:4]) == (200, "image/png", b"\x89PNG")
    assert world_console.get(f"/models/{NAME}/1/config.json").status == 404


def test_nothing_is_shown_of_a_package_that_was_meddled_with(world: World, world_console: Console, tmp_path: Path) -> None:
    card = package_of_its_own(world, 2, tmp_path) / "MODEL_CARD.md"
    card.chmod(0o644)
    card.write_text("# Trust me\n")
    page = world_console.get(f"/models/{NAME}/2").text
    assert "It does not verify, so nothing of it is shown." in page
    assert "Trust me" not in page
    assert world_console.get(f"/models/{NAME}/2/samples.png").status == 500


def test_a_run_that_goes_on_is_shown_as_far_as_it_has_come(world: World, world_console: Console) -> None:
    with world.home.database.unit_of_work() as uow:
        values = {"run_id": RUN, "step": "train_dit", "status": "running", "fingerprint": "0" * 64, "started": uow.time}
        uow.connection.execute(steps.insert().values(**values))
    progress = ProgressFile(world.home.run_folder(RUN) / "progress" / "train_dit.json", clock=lambda: 1000.0)
    progress.update(150, 600, "training", loss=0.25)
    progress._write()
    page = world_console.get(f"/runs/{RUN}").text
    assert '<meta http-equiv="refresh" content="5">' in page
    assert '<progress max="1" value="0.2500"' in page
    assert "training 150 of 600 · loss 0.25" in page
    assert "waiting" in page  # what comes after it


def test_a_single_request_is_shown_with_its_own_step_and_pipelines_are_offered_once(
    home: Home, console: Console, admin: str
) -> None:
    run_id = "0198f3a2-0000-7000-8000-000000000001"
    begin_run(home, run_id=run_id, pipeline="generation", runner="in-process", params={}, actor=admin)
    with home.database.unit_of_work() as uow:
        values = {"run_id": run_id, "step": "generate_media", "status": "running", "fingerprint": "0" * 64, "started": uow.time}
        uow.connection.execute(steps.insert().values(**values))
    page = console.get(f"/runs/{run_id}").text
    assert "generate_media" in page
    assert "generate_batch" not in page  # a step of tables of requests
    begin_run(home, run_id=f"{run_id[:-1]}2", pipeline="generation", runner="subprocess", params={}, actor=admin)
    assert "generate_batch" in console.get(f"/runs/{run_id[:-1]}2").text
    assert console.get("/runs").text.count("<option>generation") == 1


def test_losses_that_were_logged_are_drawn(world: World, world_console: Console) -> None:
    client = world.mlflow()
    experiment = client.create_experiment("groundswell-training")
    run = client.create_run(experiment, tags={"groundswell.run_id": RUN})
    for step in range(10, 60, 10):
        client.log_metric(run.info.run_id, "loss", 1 / step, step=step)
    page = world_console.get(f"/runs/{RUN}").text
    assert 'class="plot"' in page
    assert "50 steps. The loss was 0.1 at first" in page


def test_many_runs_come_in_pages_that_can_be_filtered(home: Home, console: Console, admin: str) -> None:
    ids = [f"0198f3a2-0000-7000-8000-{number:012d}" for number in range(60)]
    for place, run_id in enumerate(ids):
        pipeline = "codec" if place == 30 else "training"
        begin_run(home, run_id=run_id, pipeline=pipeline, runner="subprocess", params={}, actor=admin)
    first = console.get("/runs").text
    assert first.count("/runs/0198f3a2") == 50
    older = first.rpartition('href="/runs?')[2].partition('"')[0].replace("&amp;", "&")
    second = console.get(f"/runs?{older}").text
    assert second.count("/runs/0198f3a2") == 10
    assert ids[0] in second
    assert console.get("/runs?pipeline=codec").text.count("/runs/0198f3a2") == 1
    assert "No run is like that." in console.get("/runs?state=failed").text
    assert console.get("/runs?pipeline=%00&state=x&before=%00").status == 200


def test_the_signed_head_is_to_be_had_as_a_file(home: Home, console: Console) -> None:
    assert console.get("/checkpoint").status == 404
    note = sign_checkpoint(home.database, home.keys)
    assert console.get("/checkpoint").text == note
    assert "its inclusion proof holds" in console.get("/audit/1").text


def test_a_scrape_and_a_page_leave_no_trace(home: Home, console: Console) -> None:
    before = (home.path / "groundswell.db").read_bytes()
    for path in ("/", "/runs", "/models", "/audit", "/metrics"):
        assert console.get(path).status == 200
    assert (home.path / "groundswell.db").read_bytes() == before
