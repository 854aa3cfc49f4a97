import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model_core.training.batch import draw_batch, objective_of
from model_core.training.data_order import random_generator
from model_core.training.ema import ema_decay_at
from model_core.training.learning_rate import learning_rate_at
from model_core.training.state import TrainingState
from model_core.transformer.dit import DiT
from model_core.transformer.presets import MODERN
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING, open_latents


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return open_latents(tmp_path_factory.mktemp("data") / "latents")


def _batch(latents, config, step=0):
    return draw_batch(step, config, ARCHITECTURE, latents, latents.rows("train"))


def _reference_weights(config, latents, num_steps):
    """Trains with torch's own parts, one operation after the other, and returns weights and their average."""
    model = DiT(ARCHITECTURE, generator=random_generator(config.seed, "weights"))
    groups = [[p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]]
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": config.weight_decay}, {"params": groups[1], "weight_decay": 0.0}],
        betas=(0.9, config.adam_beta2),
        fused=True,
    )
    ema = [p.detach().clone() for p in model.parameters()]
    objective = objective_of(config)
    for step in range(num_steps):
        batch = _batch(latents, config, step)
        optimizer.zero_grad()
        objective.loss(lambda x, t, c=batch.condition: model.predict(x, t, c), batch.x_0, batch.noise, batch.time).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        optimizer.step()
        for average, parameter in zip(ema, model.parameters(), strict=True):
            average.lerp_(parameter.detach(), 1 - ema_decay_at(step, config.ema_decay))
    return list(model.parameters()), ema


@pytest.mark.parametrize("max_grad_norm", [0.05, 1.0, 100.0])
def test_an_update_is_that_of_torchs_own_parts_to_the_bit(latents, max_grad_norm):
    config = dataclasses.replace(TRAINING, max_grad_norm=max_grad_norm, weight_decay=0.1)
    state = TrainingState(config, ARCHITECTURE)
    for step in range(6):
        loss = state.backward(_batch(latents, config, step), objective_of(config))
        state.apply(float(loss), float(state.gradient_norm()))
    weights, ema = _reference_weights(config, latents, 6)
    assert all(torch.equal(found, expected) for found, expected in zip(state.model.parameters(), weights, strict=True))
    assert all(torch.equal(found, expected) for found, expected in zip(state.ema.values(), ema, strict=True))


def _gradients(config, latents, **change):
    config = dataclasses.replace(config, **change)
    state = TrainingState(config, ARCHITECTURE)
    with torch.no_grad():  # away from the start, where gates are zero and most gradients too
        for parameter in state.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    loss = state.backward(_batch(latents, config), objective_of(config))
    return float(loss), dict(state.gradients())


@pytest.mark.parametrize("objective", ["rectified_flow", "epsilon", "v"])
@pytest.mark.parametrize("accumulate_steps", [2, 3, 7])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(latents, objective, accumulate_steps):
    config = dataclasses.replace(TRAINING, batch_size=7, objective=objective, num_timesteps=50)
    loss, gradients = _gradients(config, latents)
    loss_in_parts, gradients_in_parts = _gradients(config, latents, accumulate_steps=accumulate_steps)
    assert loss_in_parts == pytest.approx(loss, abs=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_in_parts[name], gradient, rtol=1e-5, atol=1e-6)


def test_activation_checkpointing_changes_no_bit(latents):
    loss, gradients = _gradients(TRAINING, latents)
    again, found = _gradients(TRAINING, latents, activation_checkpointing=True)
    assert again == loss
    assert all(torch.equal(found[name], gradient) for name, gradient in gradients.items())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {**MODERN, "norm": "rms", "positions": "rope"}], ids=["plain", "newer parts"])
def test_compiled_blocks_compute_the_same_in_real_numbers(tmp_path, changes):
    open_latents(tmp_path)
    command = [sys.executable, "-m", "tests.model_core.training.compiled", str(tmp_path), json.dumps(changes)]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["losses"][1] == pytest.approx(found["losses"][0], rel=1e-5)
    assert found["difference"] < 1e-5
    assert found["dtypes"] == ["torch.float32"]


def test_bfloat16_is_near_float32_and_weights_and_gradients_stay_float32(latents):
    state = TrainingState(TRAINING, ARCHITECTURE, precision="bfloat16")
    exact = TrainingState(TRAINING, ARCHITECTURE)
    batch = _batch(latents, TRAINING)
    with torch.no_grad():
        for one, other in zip(state.model.parameters(), exact.model.parameters(), strict=True):
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
            other.copy_(one)
    loss, expected = (float(which.backward(batch, objective_of(TRAINING))) for which in (state, exact))
    assert loss == pytest.approx(expected, rel=0.02)
    assert loss != expected
    assert {tensor.dtype for tensor in state.tensors().values()} == {torch.float32, torch.float64}
    assert {gradient.dtype for _, gradient in state.gradients()} == {torch.float32}


def test_a_snapshot_is_a_copy_and_restores_to_the_bit(latents, tmp_path):
    config = TRAINING
    state = TrainingState(config, ARCHITECTURE)
    loss = state.backward(_batch(latents, config), objective_of(config))
    state.apply(float(loss), float(state.gradient_norm()))
    snapshot = state.snapshot()
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    loss = state.backward(_batch(latents, config, 1), objective_of(config))
    state.apply(float(loss), float(state.gradient_norm()))
    assert all(torch.equal(tensor.nan_to_num(), before[name].nan_to_num()) for name, tensor in snapshot.items())
    fresh = TrainingState(dataclasses.replace(config, seed=9), ARCHITECTURE)
    fresh.restore(snapshot, 1, source=tmp_path)
    assert fresh.step == 1
    assert all(torch.equal(tensor.nan_to_num(), before[name].nan_to_num()) for name, tensor in fresh.tensors().items())
