import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model_core.errors import BadDataError, BadModelError, TrainingDivergedError
from model_core.training.batch import draw_batch
from model_core.training.checkpoint import CHECKPOINT_NAME, read_checkpoint, write_checkpoint
from model_core.training.loop import train
from model_core.transformer.flops import forward_flops
from model_core.transformer.mlp import Mlp
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


@pytest.mark.parametrize(
    ("objective", "change"),
    [
        ("rectified_flow", {}),
        ("rectified_flow", {"time_sampling": "uniform", "min_snr_gamma": 5.0}),
        ("epsilon", {"learn_variance": True}),
        ("x0", {"noise_schedule": "sigmoid", "zero_terminal_snr": True, "time_sampling": "logit_normal"}),
        ("v", {"noise_schedule": "cosine", "zero_terminal_snr": True, "min_snr_gamma": 5.0, "decay": "wsd"}),
    ],
)
def test_the_loss_falls_on_few_items(tmp_path, scratch, objective, change):
    few = open_latents(tmp_path / "few", num_items=4)
    config = dataclasses.replace(TRAINING, objective=objective, num_steps=150, num_timesteps=50, batch_size=16, **change)
    architecture = dataclasses.replace(ARCHITECTURE, learn_variance=config.learn_variance)
    losses = train(config, architecture, few, scratch=scratch).losses
    assert sum(losses[-20:]) / 20 < 0.75 * sum(losses[:5]) / 5


# Of the first release; a recipe that gives other losses gives other models.
_FIRST_LOSSES = {
    "rectified_flow": [
        1.92248,
        2.27977,
        2.19724,
        2.34559,
        2.54975,
        2.18095,
        1.93603,
        1.83608,
        2.13496,
        2.01133,
        1.97603,
        1.81467,
    ],
    "epsilon": [0.95196, 0.9402, 1.11949, 0.99262, 0.65004, 1.07712, 0.88619, 0.74599, 0.64008, 0.76023, 0.90431, 0.70037],
}


@pytest.mark.parametrize("objective", ["rectified_flow", "epsilon"])
def test_recipes_from_before_give_the_losses_from_before(latents, scratch, objective):
    config = dataclasses.replace(TRAINING, objective=objective, num_steps=20, num_timesteps=50, text_noise=0.5)
    losses = train(config, ARCHITECTURE, latents, scratch=scratch, device="cpu").losses
    assert losses[:12] == pytest.approx(_FIRST_LOSSES[objective], rel=1e-4)


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


@pytest.mark.parametrize(
    "change", [{"precision": "bfloat16"}, {"accumulate_steps": 3}, {"objective": "v", "activation_checkpointing": True}]
)
def test_any_way_to_train_goes_on_to_the_bit(latents, scratch, tmp_path, change):
    config = dataclasses.replace(TRAINING, **change)
    whole = train(config, ARCHITECTURE, latents, scratch=tmp_path / "whole")
    with pytest.raises(_StoppedError):
        train(config, ARCHITECTURE, latents, scratch=scratch, on_step=_stop_after(7, _StoppedError()))
    resumed = train(config, ARCHITECTURE, latents, scratch=scratch)
    assert resumed.resumed_from == 5
    assert _same(whole, resumed)


@pytest.mark.parametrize("objective", ["rectified_flow", "v"])
@pytest.mark.parametrize("frame_times", ["context", "independent"])
def test_clips_with_times_of_frames_go_on_to_the_bit_and_in_parts(tmp_path, scratch, objective, frame_times):
    drawn = torch.randn(10, 4, 6, 2, 2, generator=torch.Generator().manual_seed(5))
    clips = open_latents(tmp_path / "clips", latents=drawn)
    architecture = dataclasses.replace(ARCHITECTURE, patch_size=(2, 2, 2))
    config = dataclasses.replace(TRAINING, objective=objective, frame_times=frame_times)
    whole = train(config, architecture, clips, scratch=tmp_path)
    with pytest.raises(_StoppedError):
        train(config, architecture, clips, scratch=scratch, on_step=_stop_after(7, _StoppedError()))
    resumed = train(config, architecture, clips, scratch=scratch)
    assert resumed.resumed_from == 5
    assert _same(resumed, whole)
    parts = train(dataclasses.replace(config, accumulate_steps=2), architecture, clips, scratch=tmp_path / "parts")
    torch.testing.assert_close(torch.tensor(parts.losses), torch.tensor(whole.losses), rtol=1e-4, atol=1e-5)


def test_a_batch_in_parts_trains_the_same_model(latents, tmp_path):
    architecture = dataclasses.replace(ARCHITECTURE, qk_norm=True)  # else a key's bias, without a gradient, follows rounding
    config = dataclasses.replace(TRAINING, batch_size=6)
    whole = train(config, architecture, latents, scratch=tmp_path / "whole")
    parts = train(dataclasses.replace(config, accumulate_steps=3), architecture, latents, scratch=tmp_path / "parts")
    assert parts.losses == pytest.approx(whole.losses, abs=1e-6)
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], tensor, rtol=0, atol=1e-6)


def test_the_precision_that_auto_found_is_told(latents, scratch, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    result = train(dataclasses.replace(TRAINING, precision="auto"), ARCHITECTURE, latents, scratch=scratch, device="cpu")
    assert result.precision == "bfloat16"
    assert {tensor.dtype for tensor in result.weights.values()} == {torch.float32}


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


def test_a_checkpoint_of_another_architecture_is_refused(latents, scratch):
    train(TRAINING, ARCHITECTURE, latents, scratch=scratch)
    with pytest.raises(BadModelError, match="another architecture"):
        train(TRAINING, dataclasses.replace(ARCHITECTURE, norm="rms"), latents, scratch=scratch)


@pytest.mark.parametrize("damage", ["extra", "missing", "shape", "architecture"])
def test_a_checkpoint_with_other_tensors_is_refused(latents, scratch, damage):
    train(TRAINING, ARCHITECTURE, latents, scratch=scratch)
    path = scratch / CHECKPOINT_NAME
    checkpoint = read_checkpoint(path)
    tensors, work = dict(checkpoint.tensors), dict(checkpoint.work)
    if damage == "extra":
        tensors["model.more"] = torch.zeros(2)
    elif damage == "missing":
        del tensors["ema.final_layer.linear.weight"]
    elif damage == "shape":
        tensors["ema.final_layer.linear.weight"] = torch.zeros(2)
    else:
        work["architecture"] = {"hidden_size": 16}
    write_checkpoint(path, dataclasses.replace(checkpoint, tensors=tensors, work=work))
    with pytest.raises(BadModelError, match=r"checkpoint|architecture"):
        train(TRAINING, ARCHITECTURE, latents, scratch=scratch)


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(latents, scratch, monkeypatch):
    def full(path, checkpoint):
        if checkpoint.step > 5:
            raise OSError(28, "No space left on device")
        write_checkpoint(path, checkpoint)

    monkeypatch.setattr("model_core.training.checkpoint.write_checkpoint", full)
    steps = []
    with pytest.raises(OSError, match="No space"):
        train(TRAINING, ARCHITECTURE, latents, scratch=scratch, on_step=lambda progress: steps.append(progress.step))
    assert steps[-1] == 12
    assert read_checkpoint(scratch / CHECKPOINT_NAME).step == 5


def _allocates_too_much(*_, **__):
    return torch.empty(1 << 60)


def _gpu_is_full(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize("failure", [_allocates_too_much, _gpu_is_full])
@pytest.mark.parametrize("where", ["state.TrainingState.predict", "loop.draw_batch"])
def test_a_batch_that_does_not_fit_into_memory_is_named(latents, scratch, monkeypatch, failure, where):
    monkeypatch.setattr(f"model_core.training.{where}", failure)
    with pytest.raises(BadModelError, match=r"batch of 4 .* does not fit into memory") as caught:
        train(TRAINING, ARCHITECTURE, latents, scratch=scratch)
    assert "accumulate_steps" in caught.value.hint
    assert "\n" not in caught.value.diagnosis


def test_another_error_of_torch_is_left_as_it_is(latents, scratch, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("model_core.training.state.TrainingState.predict", fails)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(TRAINING, ARCHITECTURE, latents, scratch=scratch)


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
    assert (seen[3].images_per_s, seen[3].tokens_per_s) == (4.0, 16.0)
    assert seen[3].model_flops_per_s == 3 * forward_flops(ARCHITECTURE, (1, 2, 2), 4)
    assert seen[3].share_of_peak is None


def test_speed_is_told_as_a_share_of_what_was_measured_once(latents, scratch):
    seconds, asked, seen = iter(range(1000)), [], []

    def measure(shape, device, dtype):
        asked.append((shape, device, dtype))
        return 4 * 3.0 * forward_flops(ARCHITECTURE, (1, 2, 2), 4)

    options = {"scratch": scratch, "on_step": seen.append, "clock": lambda: float(next(seconds)), "matmul_peak": measure}
    train(TRAINING, ARCHITECTURE, latents, device="cpu", **options)
    assert seen[3].share_of_peak == pytest.approx(0.25)
    assert asked == [((16, 16, 64), torch.device("cpu"), torch.float32)]
    train(TRAINING, ARCHITECTURE, latents, device="cpu", **options)
    assert len(asked) == 1  # a finished run has nothing to measure


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_inputs(latents, scratch):
    config = dataclasses.replace(TRAINING, learning_rate=1e30, max_grad_norm=1e30, warmup_steps=0)
    with pytest.raises(TrainingDivergedError, match="diverged at step") as caught:
        train(config, ARCHITECTURE, latents, scratch=scratch)
    saved = load_file(next(scratch.glob("diverged-step-*.safetensors")))
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    expected = draw_batch(step, config, ARCHITECTURE, latents, latents.rows("train"))
    assert torch.equal(saved["x_0"], expected.x_0)
    assert saved["rows"].tolist() == expected.rows


def test_the_first_gradient_that_is_not_finite_is_named(latents, scratch, monkeypatch):
    def overflowing(self, x):
        x.register_hook(lambda gradient: gradient * float("inf"))
        return forward(self, x)

    forward = Mlp.forward
    monkeypatch.setattr(Mlp, "forward", overflowing)
    with pytest.raises(TrainingDivergedError, match="first gradient that is not finite") as caught:
        train(dataclasses.replace(TRAINING, warmup_steps=0), ARCHITECTURE, latents, scratch=scratch)
    # Before the last block's MLP comes its attention; after it, on the way back, nothing is wrong yet.
    assert re.search(r"not finite blocks\.1\.(attn\.proj\.bias|adaLN_modulation\.1\.bias)", str(caught.value))
    assert "\n" not in caught.value.diagnosis


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
from model_core.transformer.flops import forward_flops
from model_core.transformer.mlp import Mlp
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
