"""Lineage reports in a real browser: on a desktop, on a phone, and printed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from governance.digest import sha256_file
from tests.infra.traced_world import World

A4_WIDTH, A4_HEIGHT = 794, 1123


@pytest.fixture(scope="module", params=["model", "clip"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a model with losses and figures, or of a clip."""
    folder = tmp_path_factory.mktemp(request.param)
    world = World(folder, losses=[2.0, 1.5, 1.2, 1.0], clips="mp4")
    clip = world.media[2]
    subject, media = (
        ("model-version:emoji-small/1", {}) if request.param == "model" else (f"media:{sha256_file(clip)}", {"media": clip})
    )
    (folder / "report.html").write_text(world.page(subject, **media), encoding="utf-8")
    world.db.close()
    return folder / "report.html"


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_a_report_fits_its_screen_and_asks_the_network_for_nothing(browser: Browser, report: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=False)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for heading in page.locator("h1, h2, h3").all():
        box = heading.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    picture = page.locator("figure img").first
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    context.close()


def test_a_report_prints_whole(browser: Browser, report: Path, tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed (apt-get install poppler-utils)")
    context = browser.new_context(viewport={"width": A4_WIDTH, "height": A4_HEIGHT})
    page = context.new_page()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= A4_WIDTH
    headings = [" ".join(text.split()) for text in page.locator("h1, h2").all_inner_texts()]
    root = page.locator(".banner code").first.inner_text()
    page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
    context.close()
    printed = subprocess.run(
        ["pdftotext", "-raw", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True
    ).stdout
    words = " ".join(printed.split())
    assert all(heading in words for heading in headings), headings
    assert root in "".join(printed.split())
    assert 1 < printed.count("\f") < 20
