import json
from copy import deepcopy

import pytest
from PIL import Image

from benchmarks.measured import FILES, RESULTS, read_results, target_distance
from benchmarks.report import main, table

MACHINE = {"processor": "Toy 9000", "cores": 2, "threads": 1, "torch": "2.0", "accelerator": None, "architecture": "x"}
BOUNDS = {"real": {"distance": 0.5, "accuracy": 0.9}, "noise": {"distance": 70.0, "accuracy": 0.1}}


def _contender(seconds):
    return {
        "training_step_s": seconds,
        "training_share_of_peak": 0.5,
        "sampling_step_s": seconds / 2,
        "peak_memory_bytes": 3 << 20,
    }


def _point(step, seconds, distance, *, sampler="euler", calls=20, **options):
    return {
        "step": step,
        "training_s": seconds,
        "distance": distance,
        "accuracy": 0.5,
        "sampler": sampler,
        "num_calls": calls,
        "num_steps": calls,
        "num_pictures": 10,
        **options,
    }


def _entry(name, points, *, seed=0, seconds=60.0):
    return {
        "name": name,
        "seed": seed,
        "budget": {"seconds": seconds, "steps": None, "num_snapshots": 2},
        "num_parameters": 2_000_000,
        "points": points,
    }


def _documents():
    shared = {"machine": MACHINE, "bounds": BOUNDS}
    return {
        "speed": {
            "machine": {**MACHINE, "accelerator": "Toy GPU"},
            "settings": {"hidden_size": 8, "depth": 1, "side": 4, "batch_size": 2, "precision": "float32"},
            "contenders": {"diffusers": _contender(0.3), "ours": _contender(0.1), "reference": _contender(0.2)},
        },
        "quality": {
            **shared,
            "entries": [
                _entry("ours", [_point(5, 15.0, 9.0), _point(10, 30.0, 4.0), _point(20, 60.0, 2.0)]),
                _entry("ours", [_point(6, 16.0, 9.0), _point(11, 50.0, 5.0), _point(22, 61.0, 4.0)], seed=1),
                _entry("ours", [_point(2, 6.0, 11.0)], seconds=6.0),
                _entry("original", [_point(10, 33.0, 12.0), _point(20, 66.0, 6.0, sampler="ddpm", calls=250)]),
                _entry("tuned-epsilon", [_point(10, 30.0, 9.0), _point(20, 62.0, 8.0)]),
            ],
        },
        "ablation": {
            **shared,
            "entries": [
                _entry("base", [_point(20, 60.0, 3.0)]),
                _entry("base", [_point(20, 60.0, 5.0)], seed=1),
                _entry("rope", [_point(20, 60.0, 3.5)]),
                _entry("no-ema", [_point(20, 60.0, 7.0)]),
            ],
        },
        "samplers": {
            **shared,
            "entries": [
                {
                    "name": "ours",
                    "points": [
                        _point(20, 60.0, 8.0, calls=5),
                        _point(20, 60.0, 5.0, calls=10),
                        _point(20, 60.0, 5.5, sampler="unipc", calls=6),
                        _point(20, 60.0, 5.5, sampler="unipc", calls=4, cache_interval=2),
                        _point(20, 60.0, 5.2, sampler="unipc", calls=8, guidance_interval=[0.2, 0.8]),
                    ],
                }
            ],
        },
    }


@pytest.fixture
def write(tmp_path):
    def write(**documents):
        for name, document in documents.items():
            (tmp_path / FILES[name]).write_text(json.dumps(document), encoding="utf-8")
        return tmp_path

    return write


def _rows(text):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {cells[0]: dict(zip(lines[0][1:], cells[1:], strict=True)) for cells in lines[2:]}


def test_the_table_tells_speed_and_quality_of_us_and_of_our_peers(write, capsys):
    assert main(["--results", str(write(**_documents()))]) == 0
    rows = _rows(capsys.readouterr().out)
    assert list(rows) == [
        *("reference (recipe original)", "diffusers", "ours", "ours-modern", "ours-modern-shared", "tuned-epsilon"),
    ]
    assert rows["ours"] == {
        "training step, ms": "100",
        "of the matmul peak": "50 %",
        "guided sampling step, ms": "50",
        "peak memory, MiB": "3",
        "distance": "3.0",  # the mean over seeds at the end of the longest runs
        "label as asked": "50 %",
        "calls to distance 6.0": "6 (unipc)",  # computed in every call
        "training to distance 6.0, s": "40",
    }
    assert rows["reference (recipe original)"]["calls to distance 6.0"] == "250 (ddpm)"
    assert rows["reference (recipe original)"]["training to distance 6.0, s"] == "66"
    assert rows["tuned-epsilon"]["training to distance 6.0, s"] == "not reached"
    assert rows["diffusers"]["distance"] == rows["ours-modern"]["training step, ms"] == "not measured"


def test_another_quality_may_be_asked_for(write, capsys):
    assert main(["--results", str(write(**_documents())), "--quality", "9"]) == 0
    rows = _rows(capsys.readouterr().out)
    assert rows["ours"]["calls to distance 9.0"] == "5 (euler)"
    assert rows["ours"]["training to distance 9.0, s"] == "16"
    assert rows["tuned-epsilon"]["training to distance 9.0, s"] == "30"


def test_machines_and_settings_are_named_and_the_best_arm(write, capsys):
    main(["--results", str(write(**_documents()))])
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert "- transformer-speed.json: Toy 9000, 2 cores, 1 threads, Toy GPU, torch 2.0" in notes
    assert "- ablation.json: Toy 9000, 2 cores, 1 threads, torch 2.0" in notes
    assert "- ablation: of 2 arms rope is nearest to real pictures, -0.50 against the base" in notes
    assert not [note for note in notes if "missing" in note]


@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_is_said_and_not_invented(write, capsys, name):
    folder = write(**{other: document for other, document in _documents().items() if other != name})
    assert main(["--results", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert f"- missing: {FILES[name]}" in printed
    if name == "speed":
        assert {row["training step, ms"] for row in _rows(printed).values()} == {"not measured"}
    if name == "quality":
        assert {row["distance"] for row in _rows(printed).values()} == {"not measured"}
        assert "calls to a distance" in printed
    if name == "samplers":
        assert _rows(printed)["ours"]["calls to distance 6.0"] == "20 (euler)"  # the recipe's own


@pytest.mark.parametrize("names", [["speed"], ["quality", "samplers"], list(FILES)], ids=len)
def test_one_plot_is_drawn_of_what_there_is(write, names):
    folder = write(**{name: _documents()[name] for name in names})
    assert main(["--results", str(folder)]) == 0
    with Image.open(folder / "summary.png") as picture:
        assert picture.width > 1000
        assert picture.height > 400 * -(-len(names) // 2)
    first = (folder / "summary.png").read_bytes()
    assert main(["--results", str(folder), "--plot", str(folder / "again" / "plot.png")]) == 0
    assert (folder / "again" / "plot.png").read_bytes() == first


def test_bad_input_is_one_line_and_a_hint(write, tmp_path, capsys):
    assert main(["--results", str(tmp_path)]) == 3
    (tmp_path / FILES["speed"]).write_text("{", encoding="utf-8")
    assert main(["--results", str(tmp_path)]) == 3
    damaged = deepcopy(_documents()["speed"])
    del damaged["contenders"]["ours"]["training_step_s"]
    assert main(["--results", str(write(speed=damaged))]) == 3
    error = capsys.readouterr().err.splitlines()
    assert ["holds no results" in error[0], "cannot be read" in error[2], "lack 'training_step_s'" in error[4]] == [True] * 3
    assert all(line.startswith("hint: ") for line in error[1::2])


def test_the_committed_results_can_be_told():
    results = read_results(RESULTS)
    assert "ours" in _rows(table(results, target_distance(results, None)))
