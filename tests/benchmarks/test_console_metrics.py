import json
from pathlib import Path

import pytest

from benchmarks import console_metrics


def test_a_small_home_is_built_scraped_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "console-metrics.json"
    assert console_metrics.main(["--runs", "20", "--entries", "400", "--turns", "2", "--json", str(document)]) == 0
    told = json.loads(document.read_text())
    assert (told["runs"], told["entries"], told["scrapes"]["turns"]) == (20, 400, 2)
    assert 0 < told["scrapes"]["median_ms"] <= told["scrapes"]["most_ms"]
    assert told["scrapes"]["answer_bytes"] > 5000
    assert "| a scrape, median |" in capsys.readouterr().out
