import json
from pathlib import Path

import pytest

from benchmarks import validation_size


def test_planted_faults_are_found_and_what_it_took_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "validation-size.json"
    assert validation_size.main(["--rows", "2000", "--turns", "1", "--json", str(document)]) == 0
    told = json.loads(document.read_text())
    assert (told["rows"], len(told["runs"])) == (2000, 1)
    assert told["num_failed_rows"] == sum(told["faults"].values())
    assert 0 < told["checking_s"] <= told["runs"][0]["process_s"]
    assert told["peak_memory_bytes"] > 50e6
    assert "| peak memory |" in capsys.readouterr().out
