"""docs/SCALING.md says what the benchmarks measured, and what follows from it."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import scaling

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "SCALING.md"


def result(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def rows(page):
    """Cells of the table of costs by stage and what is told."""
    lines = [line for line in page.splitlines() if line.startswith("| ") and "**" in line and line.endswith("` |")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(row[0], row[1]): row[2:] for row in cells}


def test_the_page_is_what_the_results_say():
    assert PAGE.read_text(encoding="utf-8") == scaling.render(), "python -m benchmarks.scaling docs/SCALING.md"


def test_no_figure_is_left_open():
    assert not re.findall(r"\{\w+\}", PAGE.read_text(encoding="utf-8"))


def test_measured_figures_are_those_of_the_files():
    """Read from the files by other means than the page's."""
    found = rows(PAGE.read_text(encoding="utf-8"))
    costs, checked = result("clip-costs")["of_a_thousand"], result("validation-size")
    assert found["import", "seconds (processor)"][0] == f"**{costs['import']['processor_s']:.2g} s**"
    assert found["encode: latents", "stored"][0] == f"**{costs['encode']['bytes'] / 1e6:.2g} MB**"
    assert found["validate: expectations", "memory"][0] == f"**{checked['peak_memory_bytes'] / 1e9:.2g} MB**", "of a million"
    page = PAGE.read_text(encoding="utf-8")
    assert f"{checked['num_failed_rows']:,} failed rows, {checked['checking_s']:.1f} s" in page
    assert f"{result('console-metrics')['scrapes']['median_ms']:.0f} ms at 1,000,000 entries" in page


def test_extrapolated_figures_are_measured_ones_times_a_number():
    found = rows(PAGE.read_text(encoding="utf-8"))
    per_thousand = result("clip-costs")["of_a_thousand"]
    assert found["import", "stored"][1] == f"{per_thousand['import']['bytes'] * 1e3 / 1e9:.2g} GB"
    gigabytes = per_thousand["import"]["bytes"] * 1e5 / 1e9
    assert found["import", "stored"][3] == f"{float(f'{gigabytes:.2g}'):.0f} GB"
    pairs = result("clip-costs")["alike"]["processor_s_a_million_pairs"]
    quadratic = found["validate: pictures that look alike", "seconds (processor), quadratic"]
    assert quadratic[1] == f"{pairs * 1e6 / 3600:.2g} h"
    years = pairs * 1e10 / 86400 / 365.25
    assert quadratic[3] == f"{years:.2g} years"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12 ms"), (1.26, "1.3 s"), (600, "10 min"), (7200, "2 h"), (1e6, "12 days"), (1e9, "32 years")]
)
def test_seconds_are_told_in_their_unit(seconds, text):
    assert scaling.seconds_text(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(12, "12 B"), (1536, "1.5 kB"), (1.36e9, "1.4 GB"), (9.8e13, "98 TB")])
def test_bytes_are_told_in_their_unit(number, text):
    assert scaling.bytes_text(number) == text


def test_links_lead_somewhere_and_the_readme_leads_here():
    for path in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / path).is_file(), path
    assert "(docs/SCALING.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
