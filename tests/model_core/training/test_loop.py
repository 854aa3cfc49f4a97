import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model_core.errors import BadDataError, BadModelError, TrainingDivergedError
from model_core.training.checkpoint import CHECKPOINT_NAME, read_checkpoint
from model_core.training.loop import draw_batch, train
from tests.model_core.toy_latents import ARCHITECTURE, SHAPE, TRAINING, open_latents


@pytest.fixture
def latents(tmp_path):
    return open_latents(tmp_path / "latents")


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def _same(first, second):
    return first.losses == second.losses and all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


class _StoppedError(Exception):
    """Stands for a process that dies between two steps."""


def _stop_after(step, error):
    def on_step(progress):
        if progress.step == step:
            raise error

    return on_step


@pytest.mark.parametrize("objective", ["rectified_flow", "epsilon"])
def test_the_loss_falls_on_few_items(tmp_path, scratch, objective):
    few = open_latents(tmp_path / "few", num_items=4)
    config = dataclasses.replace(TRAINING, objective=objective, num_steps=150, num_timesteps=50, batch_size=16)
    losses = train(config, ARCHITECTURE, few, scratch=scratch).losses
    assert sum(losses[-20:]) / 20 < 0.75 * sum(losses[:5]) / 5


def test_the_same_work_gives_the_same_weights_and_another_seed_others(latents, tmp_path):
    results = []
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        (tmp_path / name).mkdir()
        results.append(train(dataclasses.replace(TRAINING, seed=seed), ARCHITECTURE, latents, scratch=tmp_path / name))
    assert _same(results[0], results[1])
    assert not _same(results[0], results[2])


@pytest.mark.parametrize("stop", [5, 7, 11, 12])
def test_a_run_that_died_goes_on_to_the_same_losses_and_weights(latents, scratch, tmp_path, stop):
    (tmp_path / "whole").mkdir()
    whole = train(TRAINING, ARCHITECTURE, latents, scratch=tmp_path / "whole")
    with pytest.raises(_StoppedError):
        train(TRAINING, ARCHITECTURE, latents, scratch=scratch, on_step=_stop_after(stop, _StoppedError()))
    resumed = train(TRAINING, ARCHITECTURE, latents, scratch=scratch)
    assert resumed.resumed_from == stop // 5 * 5
    assert _same(whole, resumed)


def test_an_interrupt_saves_the_last_step_and_goes_on_its_way(latents, scratch):
    with pytest.raises(KeyboardInterrupt):
        train(TRAINING, ARCHITECTURE, latents, scratch=scratch, on_step=_stop_after(7, KeyboardInterrupt()))
    assert read_checkpoint(scratch / CHECKPOINT_NAME).step == 7
    assert train(TRAINING, ARCHITECTURE, latents, scratch=scratch).resumed_from == 7


def test_a_finished_run_is_not_trained_again(latents, scratch):
    first = train(TRAINING, ARCHITECTURE, latents, scratch=scratch)
    steps = []
    second = train(TRAINING, ARCHITECTURE, latents, scratch=scratch, on_step=steps.append)
    assert steps == []
    assert _same(first, second)


def test_a_checkpoint_of_other_work_is_not_used(latents, scratch):
    train(TRAINING, ARCHITECTURE, latents, scratch=scratch)
    other = dataclasses.replace(TRAINING, learning_rate=1e-3)
    assert train(other, ARCHITECTURE, latents, scratch=scratch).resumed_from == 0


def test_a_truncated_checkpoint_is_named(latents, scratch):
    (scratch / CHECKPOINT_NAME).write_bytes(b"\x10\x00")
    with pytest.raises(BadModelError, match=CHECKPOINT_NAME):
        train(TRAINING, ARCHITECTURE, latents, scratch=scratch)


def test_checkpoints_are_written_when_the_last_one_is_old(latents, scratch):
    clock = iter(range(0, 100_000, 10))
    config = dataclasses.replace(TRAINING, checkpoint_every_steps=10**6, checkpoint_every_s=25.0)
    with pytest.raises(_StoppedError):
        train(
            config,
            ARCHITECTURE,
            latents,
            scratch=scratch,
            on_step=_stop_after(11, _StoppedError()),
            clock=lambda: float(next(clock)),
        )
    assert 5 <= read_checkpoint(scratch / CHECKPOINT_NAME).step <= 11


def test_progress_tells_speed_and_time_left(latents, scratch):
    seconds = iter(range(1000))
    seen = []
    train(TRAINING, ARCHITECTURE, latents, scratch=scratch, on_step=seen.append, clock=lambda: float(next(seconds)))
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert seen[0].steps_per_s == 1.0
    assert seen[3].seconds_left == 8.0


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_inputs(latents, scratch):
    config = dataclasses.replace(TRAINING, learning_rate=1e30, max_grad_norm=1e30, warmup_steps=0)
    with pytest.raises(TrainingDivergedError, match="diverged at step") as caught:
        train(config, ARCHITECTURE, latents, scratch=scratch)
    saved = load_file(next(scratch.glob("diverged-step-*.safetensors")))
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    expected = draw_batch(step, config, ARCHITECTURE, latents, latents.rows("train"))
    assert torch.equal(saved["x_0"], expected.x_0)
    assert saved["rows"].tolist() == expected.rows


def test_latents_that_are_not_finite_are_named(tmp_path, scratch):
    drawn = torch.randn(10, *SHAPE)
    drawn[3, 0] = torch.nan
    with pytest.raises(BadDataError, match="row 3"):
        train(TRAINING, ARCHITECTURE, open_latents(tmp_path / "bad", latents=drawn), scratch=scratch)


def test_latents_that_do_not_fit_or_are_all_held_out_are_refused(latents, tmp_path, scratch):
    with pytest.raises(BadModelError, match="channels"):
        train(TRAINING, dataclasses.replace(ARCHITECTURE, in_channels=3), latents, scratch=scratch)
    with pytest.raises(BadDataError, match="label"):
        train(TRAINING, dataclasses.replace(ARCHITECTURE, num_labels=0), latents, scratch=scratch)
    with pytest.raises(BadDataError, match="caption embeddings"):
        train(TRAINING, dataclasses.replace(ARCHITECTURE, text_dim=3), latents, scratch=scratch)
    with pytest.raises(BadDataError, match="no item in the train split"):
        train(TRAINING, ARCHITECTURE, open_latents(tmp_path / "two", num_items=2), scratch=scratch)


def test_items_without_label_or_caption_are_trained_without(latents):
    config = dataclasses.replace(TRAINING, drop_all=0.0, drop_label=0.0, drop_text=0.0, batch_size=8)
    batch = draw_batch(0, config, ARCHITECTURE, latents, latents.rows("train"))
    place = batch.rows.index(0)
    assert batch.condition.labels[place] == ARCHITECTURE.num_labels
    assert not batch.condition.text_mask[place]
    assert int((batch.condition.labels == ARCHITECTURE.num_labels).sum()) == 1


_CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING
from model_core.data.latents import LatentDataset
from model_core.training.loop import train
import dataclasses
root = Path(sys.argv[1])
config = dataclasses.replace(TRAINING, num_steps=100000, checkpoint_every_steps=1)
train(config, ARCHITECTURE, LatentDataset.open(root / "latents"), scratch=root / "scratch")
"""


def test_a_killed_process_leaves_a_whole_checkpoint(latents, scratch, tmp_path):
    repository = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], cwd=repository, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (scratch / CHECKPOINT_NAME).is_file() and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.02)
        time.sleep(0.2)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = read_checkpoint(scratch / CHECKPOINT_NAME).step
    assert done >= 1
    config = dataclasses.replace(TRAINING, num_steps=100_000, checkpoint_every_steps=10**9)
    with pytest.raises(_StoppedError):
        train(config, ARCHITECTURE, latents, scratch=scratch, on_step=_stop_after(done + 1, _StoppedError()))
