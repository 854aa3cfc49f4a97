from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model_core.codec.losses import LossWeights
from model_core.codec.patch_pca import fit_patch_pca
from model_core.codec.report import fidelity, reconstruct
from model_core.codec.training import (
    CHECKPOINT_NAME,
    CodecProgress,
    CodecTrainer,
    TrainedCodec,
    ema_decay_at,
    latent_statistics,
    learning_rate_at,
    train_codec,
)
from model_core.errors import BadModelError, TrainingDivergedError
from tests.model_core.codec.small import pictures, small_codec, small_config, small_training


class KilledError(Exception):
    """Stands for a killed process."""


def kill_at(step: int) -> object:
    def report(progress: CodecProgress) -> None:
        if progress.step == step:
            raise KilledError

    return report


def weights(trained: TrainedCodec) -> dict[str, Tensor]:
    return trained.codec.state_dict()


@pytest.mark.parametrize("killed_at", [1, 3, 4])
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path: Path, killed_at: int) -> None:
    frames, training = pictures(6, 16), small_training()
    (tmp_path / "a").mkdir()
    whole = train_codec(small_config(), training, frames, scratch=tmp_path / "a")
    with pytest.raises(KilledError):
        train_codec(small_config(), training, frames, scratch=tmp_path, report=kill_at(killed_at))  # type: ignore[arg-type]
    resumed_steps: list[int] = []
    resumed = train_codec(small_config(), training, frames, scratch=tmp_path, report=lambda p: resumed_steps.append(p.step))
    assert resumed_steps[0] == killed_at // 2 * 2 + 1  # goes on from the last checkpoint
    assert resumed.losses == whole.losses
    assert resumed.codec.config == whole.codec.config
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    again = train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path, report=kill_at(1))  # type: ignore[arg-type]
    assert again.losses == first.losses


def test_training_beats_the_linear_codec_it_starts_from(tmp_path: Path) -> None:
    grey = 2 * pictures(8, 16).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    weights_of_mse = LossWeights(l1=0.0, mse=1.0, gradient=0.0, kl=0.0)
    training = small_training(
        num_steps=60, batch_size=8, divisors=(1,), learning_rate=1e-2, ema_decay=0.9, latent_noise=0.0, weights=weights_of_mse
    )
    linear = fit_patch_pca(grey, downscale=4, num_components=1).reconstruct(grey)
    trained = train_codec(small_config(latent_channels=1), training, grey, scratch=tmp_path)
    assert fidelity(grey, reconstruct(trained.codec, grey)).psnr > fidelity(grey, linear).psnr + 1


def test_training_leaves_torch_as_it_was(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one = train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    other = train_codec(small_config(), small_training(seed=1), pictures(6, 16), scratch=tmp_path / "a")
    assert one.losses != other.losses


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    other = CodecTrainer(small_config(), small_training(learning_rate=1e-4), pictures(6, 16))
    assert not other.restore(tmp_path)
    same = CodecTrainer(small_config(), small_training(checkpoint_every=5), pictures(6, 16))
    assert same.restore(tmp_path)


@pytest.mark.parametrize("num_kept", [0, 100, -1])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, num_kept: int) -> None:
    train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    path = tmp_path / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:num_kept])
    with pytest.raises(BadModelError, match="damaged"):
        train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    frames = pictures(6, 16)
    frames[:] = float("nan")
    trainer = CodecTrainer(small_config(), small_training(), pictures(6, 16))
    trainer.sampler = replace(trainer.sampler, scales=(frames,))
    with pytest.raises(TrainingDivergedError, match="step 1"):
        trainer.step()


def test_statistics_are_those_of_all_latents() -> None:
    codec, frames = small_codec(), pictures(5, 16)
    mean, std = latent_statistics(codec, (frames,))
    latents = codec.posterior(frames).mean
    torch.testing.assert_close(torch.tensor(mean), latents.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.tensor(std), latents.std(dim=(0, 2, 3), unbiased=False), atol=1e-5, rtol=1e-5)


def test_a_trained_codec_s_latents_have_zero_mean_and_unit_spread(tmp_path: Path) -> None:
    frames = pictures(6, 16)
    trained = train_codec(small_config(), small_training(divisors=(1,)), frames, scratch=tmp_path)
    latents = trained.codec.encode(frames.unsqueeze(2))
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4), unbiased=False), torch.ones(4), atol=1e-4, rtol=0)


def test_a_constant_latent_channel_is_refused() -> None:
    with pytest.raises(BadModelError, match="constant"):
        latent_statistics(small_codec(), (torch.zeros(2, 3, 4, 4),))


def test_rates_rise_then_fall() -> None:
    training = small_training(num_steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate_at(step, training) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9])
    assert rates[-1] < 0.001
    assert ema_decay_at(0, training) == pytest.approx(0.1)
    assert ema_decay_at(10**6, training) == training.ema_decay
