import json
import sys

import pytest

from benchmarks.activation_memory import main


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which counts a process's memory")
def test_activations_that_are_computed_again_take_less_than_half_of_those_that_are_kept(tmp_path, capsys):
    results = tmp_path / "results.json"
    assert main(["--presets", "DiT-S/2", "--batch-size", "8", "--repeat", "1", "--results", str(results)]) == 0
    (entry,) = json.loads(results.read_text())["entries"]
    for key in ("kept_bytes", "peak_bytes"):
        assert 0 < entry["computed again"][key] < entry["kept"][key] / 2
    assert "DiT-S/2" in capsys.readouterr().out


def test_an_unknown_network_is_named_in_one_line(tmp_path, capsys):
    assert main(["--presets", "DiT-Z/2", "--results", str(tmp_path / "results.json")]) == 3
    (error, hint) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert "DiT-Z/2" in error
    assert hint.startswith("hint: choose DiT-S/2")
    assert not list(tmp_path.iterdir())
