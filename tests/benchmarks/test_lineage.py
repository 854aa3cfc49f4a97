import json
import sys
from pathlib import Path

import pytest

from benchmarks import lineage


def test_a_small_store_is_written_asked_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "lineage.json"
    monkeypatch.setattr(sys, "argv", ["lineage", "--events", "80", "--repeat", "2", "--json", str(document), "--note", "a test"])
    assert lineage.main() == 0
    told = json.loads(document.read_text())
    assert told["counts"] == {"artifacts": 129, "lineage_edges": 192, "lineage_events": 78, "model_versions": 3}
    assert (told["note"], told["machine"]["cores"] > 0) == ("a test", True)
    found = {name: one["found"] for name, one in told["questions"].items()}
    assert found["upstream of a picture"] == 16  # seven artifacts and five steps of training; the model, two steps, a set and it
    assert found["downstream of a model"] == 1 + 4 * (1 + 1 + 1 + 8)
    assert all(one["median_ms"] <= one["slowest_ms"] for one in told["questions"].values())
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in found)
