import json

from benchmarks.clip_latency import STAGES, main


def test_every_stage_from_sentence_to_labelled_clip_is_timed(tmp_path, capsys):
    results = tmp_path / "results.json"
    assert main(["--size", "32", "--frames", "4", "--repeat", "1", "--threads", "1", "--results", str(results)]) == 0
    found = json.loads(results.read_text())
    assert found["tokens"] > 0
    assert set(found["seconds"]) == {*STAGES, "all", "processor"}
    assert abs(found["seconds"]["all"] - sum(found["seconds"][stage] for stage in STAGES)) < 0.001
    assert "credentials" in capsys.readouterr().out
