"""The guides: every link leads somewhere, every use has a page, and no data name a person or the web."""

import re
from pathlib import Path

import pytest

from tests.groundswell.uses.conftest import GUIDES, ROOT

PAGES = sorted(GUIDES.rglob("README.md"))
USES = {"content", "marketing", "insight", "decision", "education", "cross_media", "sentence"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_use_has_a_page_that_calls_it_and_tells_its_limits() -> None:
    for use in USES:
        text = (GUIDES / use.replace("_", "-") / "README.md").read_text(encoding="utf-8")
        assert f"python -m groundswell.uses.{use} " in text
        assert "## Acceptance" in text
        assert "## Limits" in text
    assert len(PAGES) == len(USES) + 1


def test_the_readme_leads_to_the_guides() -> None:
    assert "(docs/guides/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_pictures_are_small() -> None:
    assert all(path.stat().st_size < 100_000 for path in GUIDES.rglob("*.png"))
