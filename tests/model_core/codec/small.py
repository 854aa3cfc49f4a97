"""Codecs small enough for tests, and pictures and clips to code."""

import torch
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.codec.causal_autoencoder import CausalCodec
from model_core.codec.causal_config import CausalConfig
from model_core.codec.config import CodecConfig
from model_core.codec.kl_autoencoder import KLAutoencoder
from model_core.codec.kl_config import KLAutoencoderConfig
from model_core.codec.perceptual import PerceptualLoss
from model_core.codec.training import CodecTraining


def small_config(**changes: object) -> CodecConfig:
    values = {
        "latent_channels": 4,
        "downscale": 4,
        "encoder_widths": (4, 8, 8),
        "encoder_blocks": (0, 1, 1),
        "decoder_widths": (4, 8, 8),
        "decoder_blocks": (0, 1, 1),
    }
    return CodecConfig(**{**values, **changes})  # type: ignore[arg-type]


def small_codec(**changes: object) -> Codec:
    """A codec whose nonlinear path does something: every parameter is random."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        codec = Codec(small_config(**changes))
        with torch.no_grad():
            for parameter in codec.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return codec.eval()


def small_training(**changes: object) -> CodecTraining:
    values = {"num_steps": 6, "batch_size": 4, "crop_size": 8, "checkpoint_every": 2, "warmup_steps": 2, "latent_noise": 0.2}
    return CodecTraining(**{**values, **changes})  # type: ignore[arg-type]


def pictures(n: int, size: int, seed: int = 0) -> Tensor:
    """Smooth random pictures in [-1, 1], [n 3 size size]."""
    coarse = torch.rand(n, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def moving(n: int, num_frames: int, size: int, seed: int = 0) -> Tensor:
    """Smooth random clips in [-1, 1], each frame of which differs from the one before, [n 3 num_frames size size]."""
    shape = (n, 3, num_frames // 2 + 1, size // 4, size // 4)
    coarse = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(num_frames, size, size), mode="trilinear")


def small_causal_config(**changes: object) -> CausalConfig:
    values = {
        "latent_channels": 4,
        "downscale": 4,
        "temporal_downscale": 4,
        "encoder_widths": (4, 8, 8),
        "encoder_blocks": (0, 1, 1),
        "decoder_widths": (4, 8, 8),
        "decoder_blocks": (0, 1, 1),
    }
    return CausalConfig(**{**values, **changes})  # type: ignore[arg-type]


def small_causal_codec(**changes: object) -> CausalCodec:
    """A causal codec, every parameter random."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        codec = CausalCodec(small_causal_config(**changes))
        with torch.no_grad():
            for parameter in codec.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return codec.eval()


def small_kl_config(**changes: object) -> KLAutoencoderConfig:
    values = {"latent_channels": 4, "block_out_channels": (4, 8, 8), "layers_per_block": 1, "norm_num_groups": 2}
    return KLAutoencoderConfig(**{**values, **changes})  # type: ignore[arg-type]


def small_kl_codec(**changes: object) -> KLAutoencoder:
    """A KL-VAE of latent diffusion's architecture, every parameter random."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        codec = KLAutoencoder(small_kl_config(**changes))
        with torch.no_grad():
            for parameter in codec.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return codec.eval().requires_grad_(requires_grad=False)


def random_perceptual_loss() -> PerceptualLoss:
    """A perceptual loss of the real architecture with random weights, which are much faster to have than trained ones."""
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PerceptualLoss(EfficientNet.from_name("efficientnet-lite0", image_size=32), digest="random")
