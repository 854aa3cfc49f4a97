"""Several processes on one machine; they meet in a file and talk over localhost."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from model_core.errors import BadModelError
from model_core.training.distributed import Distributed, WorkerLostError, joined_processes, lost_workers_named, micro_batches
from model_core.training.loop import train
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING, open_latents

ROOT = Path(__file__).parents[3]
# A key's bias has no gradient but rounding, which Adam makes as large as any other; normalised keys have one.
NORMALISED = {"qk_norm": True}
MANY_PARTS = {
    "qk_norm": True,
    "modulation": "shared",
    "mlp": "swiglu",
    "long_skips": True,
    "norm": "rms",
    "attention": "factorised",
}


def _train_in_processes(folder, plan, *, world_size=2):
    """Returns the processes' exit statuses."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.model_core.training.processes"]
    children = [
        subprocess.Popen([*command, str(rank), str(world_size), str(folder), json.dumps(plan)], cwd=ROOT, env=environment)
        for rank in range(world_size)
    ]
    try:
        return [child.wait(timeout=240) for child in children]
    finally:
        for child in children:
            child.kill()


def _found(folder, name, rank=0):
    return json.loads((folder / f"{name}-{rank}.json").read_text())


def _alone(folder, latents, *, training=None, architecture=None, stop_after=None):
    def on_step(progress):
        if progress.step == stop_after:
            raise KeyboardInterrupt

    return train(
        dataclasses.replace(TRAINING, **(training or {})),
        dataclasses.replace(ARCHITECTURE, **(architecture or {})),
        latents,
        scratch=folder,
        device="cpu",
        on_step=on_step,
    )


ROUNDING = 2e-5
"""Sums in another order differ in the last digits of 32 bits, and AdamW carries that on: 1e-6 after ten steps on one processor,
more on another. A part of the batch that is left out changes weights by about the learning rate, 3e-3 here."""


def _assert_same(folder, name, expected):
    assert _found(folder, name)["losses"] == pytest.approx(expected.losses, abs=ROUNDING)
    weights = load_file(folder / f"{name}.safetensors")
    assert set(weights) == set(expected.weights)
    for parameter, tensor in expected.weights.items():
        torch.testing.assert_close(weights[parameter], tensor, rtol=0, atol=ROUNDING)


def _assert_loss_of_a_process_is_told(folder):
    found = _found(folder, "dead")
    assert found["error"] == "WorkerLostError"
    assert "lost another of the 2 processes" in found["diagnosis"]
    assert "\n" not in found["diagnosis"]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    latents = open_latents(tmp_path / "latents", latents=torch.randn(10, 4, 2, 2, 2, generator=torch.Generator().manual_seed(5)))
    variants = {
        "plain": {"architecture": NORMALISED},
        "uneven": {"architecture": NORMALISED, "training": {"batch_size": 5, "accumulate_steps": 2, "clip_lengths": [2, 1]}},
        "parts": {"architecture": MANY_PARTS, "training": {"activation_checkpointing": True}},
    }
    plan = [
        {"name": f"{strategy}-{name}", "strategy": strategy, **variant}
        for strategy in ("ddp", "fsdp")
        for name, variant in variants.items()
    ]
    plan.append({"name": "stopped", "strategy": "fsdp", "architecture": NORMALISED, "stop_after": 7})
    plan.append({"name": "dead", "strategy": "fsdp", "die_after": 4})
    assert _train_in_processes(tmp_path, plan) == [0, 9]
    _assert_loss_of_a_process_is_told(tmp_path)
    alone = {name: _alone(tmp_path / f"alone-{name}", latents, **variant) for name, variant in variants.items()}
    for run in plan[:-2]:
        _assert_same(tmp_path, run["name"], alone[run["name"].split("-")[1]])
    assert _found(tmp_path, "fsdp-plain", rank=1)["num_parameters"] == alone["plain"].num_parameters
    resumed = _alone(tmp_path / "scratch-stopped-0", latents, architecture=NORMALISED)
    assert resumed.resumed_from == 5
    assert resumed.losses == pytest.approx(alone["plain"].losses, abs=ROUNDING)


@pytest.mark.slow
def test_one_process_is_continued_by_two_and_only_the_first_writes(tmp_path):
    latents = open_latents(tmp_path / "latents")
    whole = _alone(tmp_path / "whole", latents, architecture=NORMALISED)
    with pytest.raises(KeyboardInterrupt):
        _alone(tmp_path / "scratch-half-0", latents, architecture=NORMALISED, stop_after=7)
    plan = [
        {"name": "first", "strategy": "fsdp", "architecture": NORMALISED, "scratch": "half"},
        {"name": "apart", "strategy": "ddp", "architecture": NORMALISED, "stop_after": 7, "apart": True},
        {"name": "differ", "strategy": "ddp", "architecture": NORMALISED, "scratch": "apart", "apart": True},
        {"name": "diverged", "strategy": "fsdp", "training": {"learning_rate": 1e30, "max_grad_norm": 1e30}},
        {"name": "dead", "strategy": "ddp", "die_after": 4},
    ]
    assert _train_in_processes(tmp_path, plan) == [0, 9]
    _assert_loss_of_a_process_is_told(tmp_path)
    assert _found(tmp_path, "first")["resumed_from"] == 7
    _assert_same(tmp_path, "first", whole)
    assert (tmp_path / "scratch-apart-0").is_dir()
    assert not (tmp_path / "scratch-apart-1").exists()
    for rank in (0, 1):
        assert "the step that they resume from: 0 to 5" in _found(tmp_path, "differ", rank)["diagnosis"]
        assert _found(tmp_path, "diverged", rank)["error"] == "TrainingDivergedError"
    assert len(list((tmp_path / "scratch-diverged-0").glob("diverged-step-*.safetensors"))) == 1


@given(num_items=st.integers(0, 50), world_size=st.integers(1, 9), count=st.integers(1, 5))
def test_shares_are_even_and_cover_a_batch_once(num_items, world_size, count):
    items = list(range(num_items))
    shares = [items[Distributed(rank=rank, world_size=world_size).share(num_items)] for rank in range(world_size)]
    assert list(itertools.chain(*shares)) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert list(itertools.chain(*(items[part] for part in micro_batches(num_items, count)))) == items


@pytest.mark.parametrize("place", [{"rank": 1}, {"rank": -1}, {"world_size": 0}, {"strategy": "pipeline"}])
def test_a_place_that_does_not_exist_is_refused(place):
    with pytest.raises(BadModelError, match=r"does not exist|no way to distribute"):
        Distributed(**place)


def test_processes_that_do_not_meet_are_told_so(tmp_path):
    with (
        pytest.raises(WorkerLostError, match="did not meet") as caught,
        joined_processes(torch.device("cpu"), rank=0, world_size=2, init_method=(tmp_path / "meet").as_uri(), timeout_s=0.5),
    ):
        pass
    assert "torchrun" in caught.value.hint


def test_only_the_transports_errors_are_taken_for_a_lost_process():
    together = Distributed(rank=0, world_size=2)
    with pytest.raises(WorkerLostError), lost_workers_named(together):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer [127.0.0.1]:3")
    with pytest.raises(RuntimeError, match="shapes"), lost_workers_named(together):
        raise RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="Connection"), lost_workers_named(Distributed()):
        raise RuntimeError("Connection closed by peer")
