import json

from benchmarks.distributed_throughput import main


def test_one_process_and_two_take_turns_at_the_same_steps(tmp_path):
    results = tmp_path / "results.json"
    small = ["--hidden-size", "64", "--depth", "1", "--batch", "4", "--steps", "2", "--rounds", "1"]
    assert main([*small, "--results", str(results)]) == 0
    found = json.loads(results.read_text())
    assert found["num_processes"] == 2
    assert len(found["step_s_of_one"]) == len(found["step_s_of_several"]) == 1
    assert found["throughput_of_several_over_one"] > 0
