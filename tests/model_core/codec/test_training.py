from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model_core.codec.adversary import AdversarialTraining
from model_core.codec.losses import LossWeights
from model_core.codec.patch_pca import fit_patch_pca
from model_core.codec.report import fidelity, reconstruct
from model_core.codec.statistics import latent_statistics
from model_core.codec.training import (
    CHECKPOINT_NAME,
    CodecProgress,
    CodecTrainer,
    TrainedCodec,
    ema_decay_at,
    learning_rate_at,
    train_codec,
)
from model_core.errors import BadDataError, BadModelError, TrainingDivergedError
from tests.model_core.codec.small import (
    pictures,
    random_perceptual_loss,
    small_codec,
    small_config,
    small_kl_config,
    small_training,
)


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


@pytest.mark.parametrize("where", ["model_core.codec.autoencoder.Codec.pixels", "model_core.codec.statistics.moments"])
def test_crops_that_do_not_fit_into_memory_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def is_full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(where, is_full)
    with pytest.raises(BadModelError, match="batch of 4 crops of 8 px does not fit into memory") as caught:
        train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    assert "batch_size" in caught.value.hint


def test_a_device_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadModelError, match="no CUDA GPU"):
        train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_trains_the_codec_that_the_cpu_trains(tmp_path: Path) -> None:
    training = small_training(adversarial=AdversarialTraining(start_step=2, width=2, num_layers=1))
    trained = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        trained[device] = train_codec(
            small_config(),
            training,
            pictures(6, 16),
            scratch=tmp_path / device,
            device=device,  # type: ignore[arg-type]
        )
    assert trained["cuda"].losses == pytest.approx(trained["cpu"].losses, rel=0.02)
    assert trained["cuda"].codec.device == torch.device("cpu")


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


ADVERSARIAL = AdversarialTraining(start_step=2, width=2, num_layers=1)


@pytest.mark.parametrize("killed_at", [1, 3, 4])  # before the discriminator starts, in its first step, and later
def test_an_interrupted_adversarial_training_ends_in_the_same_bits(tmp_path: Path, killed_at: int) -> None:
    frames, training = pictures(6, 16), small_training(adversarial=ADVERSARIAL)
    (tmp_path / "a").mkdir()
    whole = train_codec(small_config(), training, frames, scratch=tmp_path / "a")
    with pytest.raises(KilledError):
        train_codec(small_config(), training, frames, scratch=tmp_path, report=kill_at(killed_at))  # type: ignore[arg-type]
    resumed = train_codec(small_config(), training, frames, scratch=tmp_path)
    assert resumed.losses == whole.losses
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())
    one, other = ((folder / CHECKPOINT_NAME).read_bytes() for folder in (tmp_path, tmp_path / "a"))
    assert one == other  # the discriminator's state too


def test_a_discriminator_changes_nothing_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    without = train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    late = small_training(adversarial=AdversarialTraining(start_step=6, width=2, num_layers=1))
    with_one = train_codec(small_config(), late, pictures(6, 16), scratch=tmp_path / "a")
    assert with_one.losses == without.losses
    assert all(torch.equal(tensor, weights(without)[name]) for name, tensor in weights(with_one).items())


def test_a_discriminator_counts_from_its_start_on(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    without = train_codec(small_config(), small_training(), pictures(6, 16), scratch=tmp_path)
    with_one = train_codec(small_config(), small_training(adversarial=ADVERSARIAL), pictures(6, 16), scratch=tmp_path / "a")
    assert with_one.losses[:2] == without.losses[:2]
    assert with_one.losses[2] != without.losses[2]


def test_a_checkpoint_without_the_discriminator_s_weights_is_damaged(tmp_path: Path) -> None:
    training = small_training(adversarial=ADVERSARIAL)
    trainer = CodecTrainer(small_config(), training, pictures(6, 16))
    trainer.adversary = None  # what it writes then lacks them
    trainer.save(tmp_path)
    with pytest.raises(BadModelError, match="damaged"):
        CodecTrainer(small_config(), training, pictures(6, 16)).restore(tmp_path)


def test_a_perceptual_term_takes_part_and_resumes(tmp_path: Path) -> None:
    training = small_training(num_steps=4, crop_size=16, divisors=(1,), weights=LossWeights(perceptual=0.5))
    frames, perceptual = pictures(6, 32), random_perceptual_loss()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = train_codec(small_config(), training, frames, scratch=tmp_path / "a", perceptual=perceptual)
    with pytest.raises(KilledError):
        train_codec(small_config(), training, frames, scratch=tmp_path, perceptual=perceptual, report=kill_at(3))  # type: ignore[arg-type]
    resumed = train_codec(small_config(), training, frames, scratch=tmp_path, perceptual=perceptual)
    assert resumed.losses == whole.losses
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())
    without = train_codec(small_config(), replace(training, weights=LossWeights()), frames, scratch=tmp_path / "b")
    assert without.losses[0] < whole.losses[0]


def test_a_kl_autoencoder_is_trained_and_resumed_alike(tmp_path: Path) -> None:
    training = small_training(
        num_steps=3, checkpoint_every=1, weights=LossWeights(kl=1e-6, kl_unit="pixel"), adversarial=ADVERSARIAL
    )
    frames = pictures(6, 16)
    (tmp_path / "a").mkdir()
    whole = train_codec(small_kl_config(), training, frames, scratch=tmp_path / "a")
    with pytest.raises(KilledError):
        train_codec(small_kl_config(), training, frames, scratch=tmp_path, report=kill_at(2))  # type: ignore[arg-type]
    resumed = train_codec(small_kl_config(), training, frames, scratch=tmp_path)
    assert resumed.losses == whole.losses
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())
    latents = whole.codec.encode(torch.cat([frames, frames])[:, :, None])
    assert latents.shape == (12, 4, 1, 4, 4)


def test_a_kl_autoencoder_learns(tmp_path: Path) -> None:
    grey = 0.5 * torch.ones(2, 3, 8, 8)
    training = small_training(num_steps=20, divisors=(1,), learning_rate=2e-2, ema_decay=0.5, latent_noise=0.0)
    losses = train_codec(small_kl_config(block_out_channels=(4, 8)), training, grey + pictures(2, 8), scratch=tmp_path).losses
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_deterministic_codec_is_trained_without_a_kl_term(tmp_path: Path) -> None:
    config, training = small_config(posterior="deterministic"), small_training(weights=LossWeights(kl=0.0))
    trained = train_codec(config, training, pictures(6, 16), scratch=tmp_path)
    assert trained.codec.posterior(pictures(1, 16)).log_variance is None
    with pytest.raises(BadModelError, match="KL"):
        CodecTrainer(config, small_training(), pictures(6, 16))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"weights": LossWeights(perceptual=1.0)}, "no network"),
        ({"adversarial": AdversarialTraining(start_step=0, num_layers=3)}, "too small"),
        ({"crop_size": 10}, "cannot be encoded"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(changes: dict[str, object], what: str) -> None:
    with pytest.raises(BadModelError, match=what):
        CodecTrainer(small_config(), small_training(**changes), pictures(6, 16))


def test_crops_that_have_no_perceptual_distance_are_refused() -> None:
    with pytest.raises(BadModelError, match="no perceptual distance"):
        CodecTrainer(
            small_config(), small_training(weights=LossWeights(perceptual=1.0)), pictures(6, 16), random_perceptual_loss()
        )


@pytest.mark.parametrize("shape", [(6, 1, 16, 16), (6, 3, 16, 32), (3, 16, 16), (6, 3, 4, 4)])
def test_pictures_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadDataError):
        CodecTrainer(small_config(), small_training(), torch.zeros(shape))


def test_pictures_that_are_not_finite_are_refused() -> None:
    frames = pictures(6, 16)
    frames[3, 1, 2, 2] = float("nan")
    with pytest.raises(BadDataError, match="finite"):
        CodecTrainer(small_config(), small_training(), frames)


def test_rates_rise_then_fall() -> None:
    training = small_training(num_steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate_at(step, training) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9])
    assert rates[-1] < 0.001
    assert ema_decay_at(0, training) == pytest.approx(0.1)
    assert ema_decay_at(10**6, training) == training.ema_decay
