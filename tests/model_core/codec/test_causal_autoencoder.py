from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from model_core.codec import causal_autoencoder
from model_core.codec.autoencoder import build_codec
from model_core.codec.batches import crop_sampler
from model_core.codec.causal_autoencoder import CausalCodec, CausalConv
from model_core.codec.causal_config import CausalConfig
from model_core.codec.io import CONFIG_NAME, WEIGHTS_NAME, load_codec, save_codec
from model_core.codec.patch_pca import fit_patch_pca, initialise_from_pca
from model_core.codec.report import fidelity, flicker, reconstruct
from model_core.codec.statistics import latent_statistics
from model_core.codec.tiling import Tiling, decode_tiled, encode_tiled
from model_core.codec.training import train_codec
from model_core.errors import BadDataError, BadModelError
from tests.model_core.codec.small import (
    moving,
    pictures,
    small_causal_codec,
    small_causal_config,
    small_config,
    small_training,
)

STATISTICS = {"latent_mean": (0.5,) * 4, "latent_std": (2.0,) * 4}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("num_frames", [1, 2, 6, 13, 16])
def test_clips_of_any_length_come_back_as_long(factor: int, num_frames: int) -> None:
    codec, clips = small_causal_codec(temporal_downscale=factor, **STATISTICS), moving(2, num_frames, 16)
    latents = codec.encode(clips)
    assert latents.shape == (2, 4, -(-num_frames // factor), 4, 4)
    assert latents.shape[1:] == codec.config.latent_shape(num_frames, 16, 16)
    assert codec.decode(latents, num_frames).shape == clips.shape
    close(codec.decode(latents)[:, :, -num_frames:], codec.decode(latents, num_frames))


@pytest.mark.parametrize("factor", [2, 4])
def test_a_latent_frame_depends_on_its_own_frames_and_the_past_alone(factor: int) -> None:
    codec = small_causal_codec(temporal_downscale=factor)
    for place in range(8 // factor):
        clips = moving(1, 8, 8).requires_grad_()
        codec.encode(clips)[:, :, place].square().sum().backward()
        assert clips.grad is not None
        reached = clips.grad.abs().amax(dim=(0, 1, 3, 4))
        assert bool((reached[place * factor : (place + 1) * factor] > 0).all())
        assert bool((reached[(place + 1) * factor :] == 0).all())


@pytest.mark.parametrize("num_latent", [1, 2, 3, 5])
def test_the_beginning_of_a_clip_has_the_first_latents_of_the_whole(num_latent: int) -> None:
    codec, clips = small_causal_codec(**STATISTICS), moving(2, 24, 16)
    close(codec.encode(clips[:, :, : 4 * num_latent]), codec.encode(clips)[:, :, :num_latent])


@pytest.mark.parametrize("num_latent", [1, 2, 5])
def test_the_first_latents_are_decoded_to_the_beginning_of_the_clip(num_latent: int) -> None:
    codec = small_causal_codec(**STATISTICS)
    latents = torch.randn(2, 4, 6, 4, 4, generator=torch.Generator().manual_seed(1))
    close(codec.decode(latents[:, :, :num_latent]), codec.decode(latents)[:, :, : 4 * num_latent])


def test_a_still_clip_has_the_latents_of_its_picture() -> None:
    codec, picture = small_causal_codec(), pictures(2, 16).unsqueeze(2)
    one = codec.encode(picture)
    still = codec.encode(picture.expand(-1, -1, 12, -1, -1).contiguous())
    close(still, one.expand(-1, -1, 3, -1, -1).contiguous())
    assert codec.decode(one, 1).shape == (2, 3, 1, 16, 16)


def test_frames_that_fill_no_group_follow_copies_of_the_first() -> None:
    codec, clips = small_causal_codec(), moving(1, 6, 16)
    filled = torch.cat([clips[:, :, :1], clips[:, :, :1], clips], dim=2)
    close(codec.encode(clips), codec.encode(filled))
    alone = codec.encode(moving(1, 13, 16))[:, :, 0]  # of 1 + 3 * 4 frames, the first is coded by itself
    close(alone, codec.encode(moving(1, 13, 16)[:, :, :1])[:, :, 0])


def test_a_clip_is_coded_in_parts_as_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, clips = small_causal_codec(**STATISTICS), moving(1, 40, 8)
    latents = codec.encode(clips)
    decoded = codec.decode(latents)
    monkeypatch.setattr(causal_autoencoder, "_FRAMES_AT_A_TIME", 1000)
    close(latents, codec.encode(clips))
    close(decoded, codec.decode(latents))


def test_no_more_frames_are_computed_at_a_time_in_a_longer_clip() -> None:
    codec, seen = small_causal_codec(), set()
    for module in codec.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda _module, given, made: seen.update({given[0].shape[2], made.shape[2]}))
    with torch.no_grad():
        codec.decode(codec.encode(moving(1, 96, 8)))
    assert 16 <= max(seen) <= 18


def test_a_causal_convolution_is_that_of_the_frames_before() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = CausalConv(2, 3, frames=3, side=1)
    x = torch.randn(1, 2, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    kernel, bias = (value.detach() for value in (conv.conv.weight[..., 0, 0], conv.conv.bias))
    for place in range(5):
        before = [x[0, :, max(0, place - back), 0, 0] for back in (2, 1, 0)]
        expected = bias + sum(kernel[:, :, number] @ frame for number, frame in enumerate(before))
        close(conv(x, {})[0, :, place, 0, 0].detach(), expected)


def blocks_by_loop(clips: Tensor) -> np.ndarray:
    """Every block of 2 frames of 4 x 4 pixels as a row, by slicing."""
    n, _, num_frames, height, width = clips.shape
    corners = [(t, y, x) for t in range(0, num_frames, 2) for y in range(0, height, 4) for x in range(0, width, 4)]
    rows = [clips[i, :, t : t + 2, y : y + 4, x : x + 4].numpy().ravel() for i in range(n) for t, y, x in corners]
    return np.stack(rows)


def test_linear_reconstructions_of_clips_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = moving(6, 4, 8)
    blocks = blocks_by_loop(clips)
    oracle = PCA(n_components=5).fit(blocks.astype(np.float64))
    expected = np.clip(oracle.inverse_transform(oracle.transform(blocks)), -1, 1)
    for numbers_at_a_time in (1 << 26, 1500):
        monkeypatch.setattr("model_core.codec.patch_pca._NUMBERS_AT_A_TIME", numbers_at_a_time)
        pca = fit_patch_pca(clips, downscale=4, num_components=5, num_frames=2)
        np.testing.assert_allclose(blocks_by_loop(pca.reconstruct(clips)), expected, atol=2e-5)
    assert pca.reconstruct(clips[:, :, :3]).shape == (6, 3, 3, 8, 8)


def test_a_codec_started_from_the_components_is_the_linear_codec() -> None:
    clips = moving(8, 8, 16)
    clips = torch.cat([clips, -clips])  # the mean block is then constant, as the codec's bias can hold
    pca = fit_patch_pca(clips, downscale=4, num_components=4, num_frames=4)
    codec = build_codec(small_causal_config())
    initialise_from_pca(codec, pca)
    torch.testing.assert_close(codec.decode(codec.encode(clips)), pca.reconstruct(clips), atol=1e-4, rtol=0)
    with pytest.raises(BadModelError, match="linear path"):
        initialise_from_pca(codec, fit_patch_pca(clips, downscale=4, num_components=4, num_frames=2))


def test_training_leads_beyond_the_linear_codec_and_to_unit_latents(tmp_path: Path) -> None:
    grey = 1.5 * moving(12, 8, 16).mean(dim=1, keepdim=True)
    clips, config = grey.expand(-1, 3, -1, -1, -1).contiguous(), small_causal_config(latent_channels=2)
    training = small_training(num_steps=60, crop_size=16, divisors=(1,), learning_rate=1e-2, ema_decay=0.9, latent_noise=0.0)
    codec = train_codec(config, training, clips, scratch=tmp_path, device="cpu").codec
    assert isinstance(codec, CausalCodec)
    linear = fit_patch_pca(clips, downscale=4, num_components=2, num_frames=4).reconstruct(clips)
    assert fidelity(clips, reconstruct(codec, clips)).psnr > fidelity(clips, linear).psnr + 1
    latents = codec.encode(clips)
    close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(2))
    close(latents.std(dim=(0, 2, 3, 4), unbiased=False), torch.ones(2))


def test_pictures_train_it_too(tmp_path: Path) -> None:
    frames = pictures(6, 16).unsqueeze(2)
    trained = train_codec(small_causal_config(), small_training(), frames, scratch=tmp_path, device="cpu")
    assert reconstruct(trained.codec, frames).shape == frames.shape
    assert len(trained.losses) == 6


@pytest.mark.parametrize("deterministic", [False, True])
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path: Path, deterministic: bool) -> None:
    config = small_causal_config(posterior="deterministic" if deterministic else "gaussian")
    training = small_training(crop_frames=5)
    if deterministic:
        training = small_training(crop_frames=5, weights=type(training.weights)(kl=0.0))
    clips = moving(6, 8, 16)
    (tmp_path / "whole").mkdir()
    whole = train_codec(config, training, clips, scratch=tmp_path / "whole", device="cpu")

    def killed(progress: object) -> None:
        if getattr(progress, "step", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_codec(config, training, clips, scratch=tmp_path, device="cpu", report=killed)
    resumed = train_codec(config, training, clips, scratch=tmp_path, device="cpu")
    assert resumed.losses == whole.losses
    assert all(torch.equal(resumed.codec.state_dict()[name], value) for name, value in whole.codec.state_dict().items())


def test_crops_of_clips_are_frames_in_a_row_all_cut_and_recoloured_alike() -> None:
    place = torch.arange(10.0).view(1, 1, 10, 1, 1) / 10
    clips = (0.01 * pictures(4, 16).unsqueeze(2) + place).contiguous()  # a frame's brightness tells its place
    sampler = crop_sampler(clips, divisors=(1, 2), crop_size=8, batch_size=6, seed=0, crop_frames=4)
    begins = set()
    for step in range(8):
        crops = sampler.draw(step)
        assert crops.shape == (6, 3, 4, 8, 8)
        close(crops.diff(dim=2), torch.full((6, 3, 3, 8, 8), 0.1))
        begins |= set((crops[:, :, 0].mean(dim=(1, 2, 3)) * 10).round().int().tolist())
    assert begins == set(range(7))


def test_statistics_are_numpys_of_all_latents() -> None:
    codec, clips = small_causal_codec(), moving(20, 8, 8)
    mean, std = latent_statistics(codec, [clips])
    latents = codec.encode(clips).detach().double().numpy()
    np.testing.assert_allclose(mean, latents.mean(axis=(0, 2, 3, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std, latents.std(axis=(0, 2, 3, 4)), rtol=1e-5)


def test_flicker_is_the_change_from_frame_to_frame() -> None:
    clips = torch.zeros(2, 3, 3, 4, 4)
    clips[0, :, 1] = 1.0  # of a range of two, once up and once down
    assert flicker(clips) == pytest.approx((0.5 + 0.0) / 2, abs=0.01)
    assert flicker(clips[:, :, :1]) == 0.0


def test_a_codec_comes_back_from_its_folder_as_it_was(tmp_path: Path) -> None:
    original = small_causal_codec(**STATISTICS)
    save_codec(original, tmp_path)
    codec, clips = load_codec(tmp_path), moving(1, 8, 16)
    assert codec.config == original.config == CausalConfig.from_dict(original.config.to_dict())
    assert torch.equal(codec.encode(clips), original.encode(clips))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"temporal_downscale": 4', '"temporal_downscale": 2', "missing or unknown|expected"),
        ('"temporal_downscale": 4', '"temporal_downscale": 3', "temporal_downscale is 3"),
        ('"temporal_downscale": 4', '"temporal_downscale": "4"', "wrong type"),
        ('"temporal_downscale": 4', '"pace": 4', "unknown or missing keys"),
        ("causal_3d", "causal_4d", "causal_4d' is unknown"),
        ("causal_3d", "compact", "unknown or missing keys: temporal_downscale"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(tmp_path: Path, before: str, after: str, words: str) -> None:
    save_codec(small_causal_codec(), tmp_path)
    text = (tmp_path / CONFIG_NAME).read_text()
    assert before in text
    (tmp_path / CONFIG_NAME).write_text(text.replace(before, after))
    with pytest.raises(BadModelError, match=words):
        load_codec(tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    save_codec(small_causal_codec(), tmp_path)
    content = (tmp_path / WEIGHTS_NAME).read_bytes()
    (tmp_path / WEIGHTS_NAME).write_bytes(content[:-7])
    with pytest.raises(BadModelError, match="safetensors"):
        load_codec(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temporal_downscale": 8}, "temporal_downscale is 8"),
        ({"temporal_downscale": 1}, "temporal_downscale is 1"),
        (
            {"downscale": 2, **{f"{net}_{what}": (1, 1) for net in ("encoder", "decoder") for what in ("widths", "blocks")}},
            "larger",
        ),
    ],
)
def test_factors_that_do_not_fit_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadModelError, match=words):
        small_causal_config(**changes)


def test_latents_of_another_number_of_frames_are_refused() -> None:
    codec, latents = small_causal_codec(), torch.zeros(1, 4, 2, 4, 4)
    for num_frames in (4, 9, 0, -3):
        with pytest.raises(BadModelError, match=f"clips of {num_frames} frames"):
            codec.decode(latents, num_frames)
    with pytest.raises(BadModelError, match="0 frames cannot be encoded"):
        codec.encode(torch.zeros(1, 3, 0, 16, 16))


def test_it_is_not_coded_in_tiles() -> None:
    codec = small_causal_codec()
    for call in (
        lambda: encode_tiled(codec, moving(1, 4, 16), Tiling()),
        lambda: decode_tiled(codec, torch.zeros(1, 4, 1, 4, 4), Tiling()),
    ):
        with pytest.raises(BadModelError, match="not coded in tiles"):
            call()


def test_clips_and_pictures_go_to_the_codec_that_learns_from_them(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"learns from \[n, 3, frames, side, side\]"):
        train_codec(small_causal_config(), small_training(), pictures(4, 16), scratch=tmp_path)
    with pytest.raises(BadDataError, match=r"learns from \[n, 3, side, side\]"):
        train_codec(small_config(), small_training(), moving(4, 8, 16), scratch=tmp_path)
