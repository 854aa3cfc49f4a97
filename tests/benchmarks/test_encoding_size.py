import json
from pathlib import Path

import pytest

from benchmarks import encoding_size


def test_shards_are_encoded_read_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "encoding-size.json"
    assert encoding_size.main(["--shards", "20", "--items-a-shard", "2", "--json", str(document)]) == 0
    (told,) = json.loads(document.read_text())["runs"]
    assert (told["shards"], told["items"]) == (20, 40)
    assert told["maps_of_latents"] >= 20, "one shard of latents a tar file"
    assert told["open_files"] < 15, "shards that were read are closed again"
    assert 0 < told["encoding_peak_memory_bytes"] <= told["peak_memory_bytes"]
    assert "| shards |" in capsys.readouterr().out
