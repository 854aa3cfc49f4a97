import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from model_core.codec.autoencoder import build_codec
from model_core.codec.autoencoder_kl import CONFIG_NAME, WEIGHTS_NAME, export_autoencoder_kl, import_autoencoder_kl
from model_core.codec.io import load_codec, save_codec
from model_core.codec.kl_autoencoder import KLAutoencoder
from model_core.codec.kl_config import KLAutoencoderConfig
from model_core.errors import BadDataError, BadModelError
from tests.model_core.codec.small import pictures, small_codec, small_kl_codec, small_kl_config

SCALE = 0.18215


def oracle(**changes: Any) -> AutoencoderKL:
    """A small AutoencoderKL of diffusers, every parameter random."""
    values = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "scaling_factor": SCALE,
        "shift_factor": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(5)
        vae = AutoencoderKL(**{**values, **changes}).eval().requires_grad_(False)
        for parameter in vae.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return vae


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    oracle().save_pretrained(tmp_path)
    return tmp_path


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG_NAME
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value != "removed"}))


VARIANTS: list[dict[str, Any]] = [
    {},
    {"shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False, "latent_channels": 6},
    {"mid_block_add_attention": False, "layers_per_block": 2},
    {
        "block_out_channels": (4, 12),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_an_imported_vae_encodes_and_decodes_as_diffusers_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    vae = oracle(**changes)
    vae.save_pretrained(tmp_path)
    codec = import_autoencoder_kl(tmp_path)
    frames = pictures(2, 32)[:, :, :24]  # not square
    posterior, expected = codec.posterior(frames), vae.encode(frames).latent_dist
    torch.testing.assert_close(posterior.mode(), expected.mode(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(posterior.log_variance, expected.logvar, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(posterior.nats(), expected.kl(), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(codec.pixels(expected.mode()), vae.decode(expected.mode()).sample, atol=1e-5, rtol=1e-5)
    shift, scale = vae.config.shift_factor or 0.0, vae.config.scaling_factor
    latents = codec.encode(frames.unsqueeze(2))
    torch.testing.assert_close(latents.squeeze(2), (expected.mode() - shift) * scale, atol=1e-5, rtol=1e-5)
    decoded = vae.decode(latents.squeeze(2) / scale + shift).sample.clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents).squeeze(2), decoded, atol=1e-5, rtol=1e-5)


def test_the_full_size_architecture_has_diffusers_tensors() -> None:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device("meta"):
        theirs = AutoencoderKL(**blocks, block_out_channels=(128, 256, 512, 512), layers_per_block=2).state_dict()
        ours = KLAutoencoder(KLAutoencoderConfig()).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: tensor.shape for name, tensor in theirs.items()}


@pytest.mark.parametrize("statistics", [{}, {"latent_mean": (0.5,) * 4, "latent_std": (2.0,) * 4}])
def test_diffusers_loads_what_is_exported(tmp_path: Path, statistics: dict[str, Any]) -> None:
    codec, frames = small_kl_codec(**statistics), pictures(2, 16)
    export_autoencoder_kl(codec, tmp_path)
    vae = AutoencoderKL.from_pretrained(tmp_path, local_files_only=True).eval()
    latents = codec.encode(frames.unsqueeze(2))
    shift = vae.config.shift_factor or 0.0
    theirs = (vae.encode(frames).latent_dist.mode() - shift) * vae.config.scaling_factor
    torch.testing.assert_close(latents.squeeze(2), theirs, atol=1e-5, rtol=1e-5)
    decoded = vae.decode(theirs / vae.config.scaling_factor + shift).sample.clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents).squeeze(2), decoded, atol=1e-5, rtol=1e-5)


def test_channels_with_statistics_of_their_own_survive_the_way_out_and_back(tmp_path: Path) -> None:
    codec = small_kl_codec(latent_mean=(0.1, -0.2, 0.3, 0.0), latent_std=(1.0, 2.0, 0.5, 4.0))
    export_autoencoder_kl(codec, tmp_path)
    again = import_autoencoder_kl(tmp_path)
    assert again.config == codec.config
    pixels = pictures(1, 16).unsqueeze(2)
    assert torch.equal(again.encode(pixels), codec.encode(pixels))
    vae = AutoencoderKL.from_pretrained(tmp_path, local_files_only=True)
    assert vae.config.latents_std == [1.0, 2.0, 0.5, 4.0]


def test_an_export_gives_the_same_bytes_as_the_codec_it_came_from(tmp_path: Path) -> None:
    for name in ("a", "b", "codec"):
        (tmp_path / name).mkdir()
    export_autoencoder_kl(small_kl_codec(), tmp_path / "a")
    export_autoencoder_kl(import_autoencoder_kl(tmp_path / "a"), tmp_path / "b")
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_imported_vae_is_kept_as_a_codec(folder: Path, tmp_path: Path) -> None:
    codec = import_autoencoder_kl(folder)
    (tmp_path / "codec").mkdir()
    save_codec(codec, tmp_path / "codec")
    again, pixels = load_codec(tmp_path / "codec"), pictures(2, 16).unsqueeze(2)
    assert isinstance(again, KLAutoencoder)
    assert again.config == codec.config
    assert torch.equal(again.decode(again.encode(pixels)), codec.decode(codec.encode(pixels)))
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_half_precision_weights_become_float32(folder: Path) -> None:
    full = import_autoencoder_kl(folder)
    tensors = load_file(folder / WEIGHTS_NAME)
    save_file({name: tensor.half() for name, tensor in tensors.items()}, folder / WEIGHTS_NAME)
    half = import_autoencoder_kl(folder)
    assert all(tensor.dtype == torch.float32 for tensor in half.state_dict().values())
    pixels = pictures(1, 16).unsqueeze(2)
    torch.testing.assert_close(half.encode(pixels), full.encode(pixels), atol=1e-2, rtol=1e-2)


def test_attention_under_its_older_names_is_understood(folder: Path) -> None:
    full = import_autoencoder_kl(folder)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, tensor in load_file(folder / WEIGHTS_NAME).items():
        found = next((new for new in old if f".{new}." in name), None)
        renamed = name if found is None else name.replace(found, old[found])
        tensors[renamed] = tensor[:, :, None, None].contiguous() if found and name.endswith("weight") else tensor
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, folder / WEIGHTS_NAME)
    again = import_autoencoder_kl(folder)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in full.state_dict().items())


def test_a_config_older_than_the_newest_keys_means_their_defaults(folder: Path) -> None:
    newest = ("shift_factor", "latents_mean", "latents_std", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
    expected = import_autoencoder_kl(folder).config
    change_config(folder, **dict.fromkeys((*newest, "scaling_factor"), "removed"))
    with pytest.raises(BadModelError, match="scaling_factor"):
        import_autoencoder_kl(folder)
    assert import_autoencoder_kl(folder, scaling_factor=SCALE).config == expected


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"_class_name": "VQModel"}, "_class_name"),
        ({"_class_name": "removed"}, "_class_name"),
        ({"block_out_channels": "removed"}, "missing keys: block_out_channels"),
        ({"norm_num_groups": "removed", "act_fn": "removed"}, "missing keys: act_fn, norm_num_groups"),
        ({"temporal_compression_ratio": 4}, "unknown keys: temporal_compression_ratio"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"in_channels": 1}, "in_channels"),
        ({"out_channels": 4}, "out_channels"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 3}, "down_block_types"),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "up_block_types"),
        ({"block_out_channels": 8}, "block_out_channels|down_block_types"),
        ({"block_out_channels": [8, 16, 1 << 40]}, "block_out_channels"),
        ({"block_out_channels": [8, 16, "16"]}, "block_out_channels"),
        ({"norm_num_groups": 3}, "norm_num_groups"),
        ({"norm_num_groups": 0}, "norm_num_groups"),
        ({"layers_per_block": 0}, "layers_per_block"),
        ({"layers_per_block": 1.5}, "layers_per_block"),
        ({"latent_channels": True}, "latent_channels"),
        ({"use_quant_conv": 1}, "use_quant_conv"),
        ({"scaling_factor": 0}, "scaling_factor"),
        ({"scaling_factor": -1.0}, "scaling_factor"),
        ({"scaling_factor": float("nan")}, "scaling_factor"),
        ({"scaling_factor": "0.18215"}, "scaling_factor"),
        ({"scaling_factor": 10**400}, "scaling_factor"),
        ({"shift_factor": float("inf")}, "shift_factor"),
        ({"scaling_factor": 1e-300}, "latent_std"),
        ({"latents_mean": [0.0] * 4}, "latents_mean and latents_std"),
        ({"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}, "latent_mean and latent_std need 4"),
        ({"latents_mean": [0.0] * 4, "latents_std": [0.0] * 4}, "latent_std"),
        ({"latents_mean": 0.5, "latents_std": [1.0] * 4}, "latents_mean"),
        ({"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "shift_factor": 0.1}, "shift_factor"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder: Path, changes: dict[str, Any], what: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(BadModelError, match=what) as caught:
        import_autoencoder_kl(folder)
    assert "\n" not in caught.value.diagnosis


def test_a_scale_factor_that_contradicts_the_config_is_refused(folder: Path) -> None:
    with pytest.raises(BadModelError, match="scaling_factor"):
        import_autoencoder_kl(folder, scaling_factor=1.0)


@pytest.mark.parametrize("content", ["", "[]", "{", '"AutoencoderKL"', "\udcff"])
def test_a_config_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / CONFIG_NAME).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadModelError, match=CONFIG_NAME):
        import_autoencoder_kl(folder)


@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadModelError, match=name):
        import_autoencoder_kl(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match="nowhere"):
        import_autoencoder_kl(tmp_path / "nowhere")


def with_nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["quant_conv.bias"][0] = float("nan")


def without_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["quant_conv.bias"]


def with_one_more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["zzz.weight"] = torch.zeros(1)


def misshapen(tensors: dict[str, torch.Tensor]) -> None:
    tensors["quant_conv.bias"] = torch.zeros(3)


def of_integers(tensors: dict[str, torch.Tensor]) -> None:
    tensors["quant_conv.bias"] = torch.zeros(8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (with_nan, r"quant_conv\.bias holds"),
        (without_one, r"quant_conv\.bias.*missing"),
        (with_one_more, r"zzz\.weight.*unknown"),
        (misshapen, r"quant_conv\.bias is"),
        (of_integers, r"quant_conv\.bias is"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder: Path, damage: Callable[[dict[str, torch.Tensor]], None], what: str) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    damage(tensors)
    save_file(tensors, folder / WEIGHTS_NAME)
    with pytest.raises(BadModelError, match=what) as caught:
        import_autoencoder_kl(folder)
    assert "\n" not in caught.value.diagnosis


def test_pickled_weights_are_never_loaded(folder: Path) -> None:
    (folder / WEIGHTS_NAME).unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BadModelError, match=r"pickled weights, diffusion_pytorch_model\.bin"):
        import_autoencoder_kl(folder)


def test_a_pickle_named_safetensors_is_refused(folder: Path) -> None:
    torch.save(small_kl_codec().state_dict(), folder / WEIGHTS_NAME)
    with pytest.raises(BadModelError, match="safetensors"):
        import_autoencoder_kl(folder)


@pytest.mark.parametrize("num_missing", [1, 5000])
def test_truncated_weights_are_refused(folder: Path, num_missing: int) -> None:
    path = folder / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-num_missing])
    with pytest.raises(BadModelError, match="safetensors"):
        import_autoencoder_kl(folder)


def test_a_folder_of_the_other_layout_is_refused_either_way(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match="diffusers"):
        load_codec(folder)
    (tmp_path / "codec").mkdir()
    save_codec(small_kl_codec(), tmp_path / "codec")
    with pytest.raises(BadModelError, match="_class_name"):
        import_autoencoder_kl(tmp_path / "codec")


def test_weights_of_the_other_architecture_are_refused(tmp_path: Path) -> None:
    save_codec(small_kl_codec(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(small_codec().config.to_dict()))
    with pytest.raises(BadModelError, match="missing or unknown"):
        load_codec(tmp_path)
    save_codec(small_codec(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(small_kl_config().to_dict()))
    with pytest.raises(BadModelError, match="missing or unknown"):
        load_codec(tmp_path)


def test_first_weights_depend_on_the_seed_only() -> None:
    one, same, other = (build_codec(small_kl_config(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_bad_pictures_are_refused() -> None:
    codec = small_kl_codec()
    for shape in ((1, 1, 1, 8, 8), (1, 3, 1, 2, 2), (1, 3, 1, 0, 8), (1, 3, 1, 8, 10)):
        with pytest.raises(BadModelError):
            codec.encode(torch.zeros(shape))
    with pytest.raises(BadDataError, match="finite"):
        codec.encode(torch.full((1, 3, 1, 8, 8), float("nan")))
    with pytest.raises(BadModelError, match="latents have shape"):
        codec.decode(torch.zeros(1, 3, 1, 2, 2))
