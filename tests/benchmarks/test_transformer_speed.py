import json
import math
from dataclasses import replace

import pytest

from benchmarks import speed_contenders
from benchmarks.quality_time import OURS, OURS_MODERN
from benchmarks.speed_contenders import CONTENDERS, Settings
from benchmarks.speed_worker import operations
from benchmarks.transformer_speed import Worker, main
from model_core.errors import BadModelError
from model_core.transformer.presets import MODERN, modern

TINY = Settings(
    contender="",
    hidden_size=16,
    depth=1,
    num_heads=2,
    side=4,
    batch_size=2,
    device="cpu",
    precision="float32",
    threads=1,
)


@pytest.mark.slow
def test_tells_figures_of_every_contender(tmp_path, capsys):
    path = tmp_path / "speed.json"
    arguments = ["--size", "tiny", "--side", "4", "--batch", "2", "--steps", "3", "--sampling-steps", "2", "--threads", "1"]
    assert main([*arguments, "--contenders", "reference,ours", "--json", str(path)]) == 0
    document = json.loads(path.read_text(encoding="utf-8"))
    assert set(document["contenders"]) == {"reference", "ours"}
    assert document["settings"]["batch_size"] == 2
    for row in document["contenders"].values():
        assert len(row["training_steps_s"]) == 3
        assert row["training_flops"] > row["sampling_flops"] > 0
        assert row["peak_memory_bytes"] > 0
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
        share = row["training_flops"] / row["training_step_s"] / document["matmul_flops_per_s"]
        assert row["training_share_of_peak"] == pytest.approx(share)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["reference", "ours"]


@pytest.mark.slow
def test_a_contender_that_ends_is_named():
    worker = Worker(replace(TINY, contender="nobody"))
    try:
        with pytest.raises(BadModelError, match="contender nobody ended with 1"):
            worker.wait_until_ready()
    finally:
        worker.close()


def test_our_network_computes_what_the_reference_computes():
    """Same operations counted in the same way, but for the embedding of captions that neither has."""
    reference, ours = (operations(CONTENDERS[name](TINY), TINY) for name in ("reference", "ours"))
    assert ours == reference


def test_our_network_has_the_reference_s_parameters():
    assert CONTENDERS["ours"](TINY).num_parameters == CONTENDERS["reference"](TINY).num_parameters


@pytest.mark.parametrize(("name", "modulation"), [("ours-modern", "block"), ("ours-modern-shared", "shared")])
def test_the_modern_networks_are_the_presets_but_for_what_their_names_say(name, modulation):
    architecture = speed_contenders._architecture(TINY, name)
    assert architecture == modern(replace(architecture, modulation=modulation))
    assert architecture.modulation == modulation
    assert {part: getattr(architecture, part) for part in MODERN} == MODERN
    assert OURS_MODERN.architecture == {**OURS.architecture, **MODERN}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "diffusers" else ()) for name in CONTENDERS]
)
def test_each_contender_trains_and_samples(name):
    contender = CONTENDERS[name](TINY)
    steps = []

    class EnoughError(Exception):
        pass

    def after_step():
        steps.append(1)
        if len(steps) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        contender.train(after_step)
    assert tuple(contender.sample(2).shape) in {(2, 4, 4, 4), (2, 4, 1, 4, 4)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--contenders", "nobody"], "no contender 'nobody'"),
        (["--contenders", ","], "no contender was chosen"),
        (["--side", "5"], "do not divide"),
        (["--device", "cuda"], "no CUDA GPU"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(arguments) == 3
    error, hint = capsys.readouterr().err.splitlines()
    assert said in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--steps", "many"], ["--size", "XXL"]])
def test_bad_options_are_usage_errors(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
