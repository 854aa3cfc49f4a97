"""The KL-VAE of latent diffusion models (Rombach 2021, arXiv 2112.10752, appendix G), as public weights have it.

Shape legend: n frames, c latent channels, h w height and width where they are, H W picture height and width.

Residual blocks of two 3x3 convolutions, each after a group norm and SiLU; a block of self-attention over all positions in
the middle; resolution halved by a strided convolution and doubled by repeating pixels before one. Modules carry the names that
weights of this architecture are published under, so a state dict needs no translation.
"""

from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model_core.codec.autoencoder import Codec, Posterior
from model_core.codec.kl_config import KLAutoencoderConfig

_NORM_EPS = 1e-6
_LOG_VARIANCE_RANGE = (-30.0, 20.0)


class ResnetBlock(nn.Module):
    """Two normalised 3x3 convolutions around an identity, or around a 1x1 convolution where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=_NORM_EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=_NORM_EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h w"]:
        """Returns the shortcut plus a learned correction."""
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        shortcut: Tensor = x if self.conv_shortcut is None else self.conv_shortcut(x)
        corrected: Tensor = shortcut + y
        return corrected


class Attention(nn.Module):
    """One head of self-attention over all positions, around an identity (Vaswani 2017, arXiv 1706.03762, eq. 1)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=_NORM_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Returns x plus what each position gathers from the others."""
        tokens = rearrange(self.group_norm(x), "n c h w -> n 1 (h w) c")
        gathered = functional.scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        correction: Tensor = rearrange(self.to_out[0](gathered), "n 1 (h w) c -> n c h w", h=x.shape[2])
        return x + correction


class MidBlock(nn.Module):
    """Two residual blocks at the latents' resolution, attention between them."""

    def __init__(self, channels: int, groups: int, *, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, groups)] if attention else [])
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups) for _ in range(2)])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Returns x after the blocks."""
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        result: Tensor = self.resnets[1](x)
        return result


class Downsample(nn.Module):
    """Halves the resolution; the padding is on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Returns x at half its height and width."""
        half: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return half


class Upsample(nn.Module):
    """Doubles the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Returns x at twice its height and width."""
        double: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return double


class DownBlock(nn.Module):
    """A level of the encoder."""

    def __init__(self, in_channels: int, out_channels: int, *, num_layers: int, groups: int, downsample: bool) -> None:
        super().__init__()
        widths = (in_channels, *(out_channels,) * num_layers)
        self.resnets = nn.ModuleList(ResnetBlock(before, after, groups) for before, after in pairwise(widths))
        self.downsamplers = nn.ModuleList([Downsample(out_channels)] if downsample else [])

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h2 w2"]:
        """Returns x after the level's blocks, at half its size where a level follows."""
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpBlock(nn.Module):
    """A level of the decoder."""

    def __init__(self, in_channels: int, out_channels: int, *, num_layers: int, groups: int, upsample: bool) -> None:
        super().__init__()
        widths = (in_channels, *(out_channels,) * num_layers)
        self.resnets = nn.ModuleList(ResnetBlock(before, after, groups) for before, after in pairwise(widths))
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if upsample else [])

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h2 w2"]:
        """Returns x after the level's blocks, at twice its size where a level follows."""
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class KLEncoder(nn.Module):
    """Pixels to the parameters of the posterior, mean and log variance one after the other."""

    def __init__(self, config: KLAutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownBlock(before, width, num_layers=config.layers_per_block, groups=groups, downsample=level < len(widths) - 1)
            for level, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True))
        )
        self.mid_block = MidBlock(widths[-1], groups, attention=config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c2 h w"]:
        """Returns the posterior's parameters."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        parameters: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return parameters


class KLDecoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: KLAutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], groups, attention=config.mid_block_add_attention)
        self.up_blocks = nn.ModuleList(
            UpBlock(before, width, num_layers=config.layers_per_block + 1, groups=groups, upsample=level < len(widths) - 1)
            for level, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Returns pixels, about [-1, 1]."""
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        frames: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return frames


class KLAutoencoder(Codec):
    """A codec of this architecture; it encodes and decodes as every codec does.

    Args:
        config: Architecture and latent statistics; without statistics latents are left as the encoder makes them.
    """

    config: KLAutoencoderConfig

    def __init__(self, config: KLAutoencoderConfig) -> None:
        super().__init__(config)

    def _make_networks(self) -> None:
        config = self.config
        self.encoder, self.decoder = KLEncoder(config), KLDecoder(config)
        c = config.latent_channels
        self.quant_conv = nn.Conv2d(2 * c, 2 * c, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(c, c, 1) if config.use_post_quant_conv else None

    @property
    def last_weight(self) -> nn.Parameter:
        """The weight of the decoder's last layer, where the gradients of losses are compared."""
        return self.decoder.get_parameter("conv_out.weight")

    def posterior(self, frames: Float[Tensor, "n 3 H W"]) -> Posterior:
        """Returns the posterior of frames with values in [-1, 1]."""
        parameters = self.encoder(frames.contiguous(memory_format=torch.channels_last))  # [n 2c h w]
        if self.quant_conv is not None:
            parameters = self.quant_conv(parameters)
        mean, log_variance = parameters.chunk(2, dim=1)
        return Posterior(mean=mean, log_variance=log_variance.clamp(*_LOG_VARIANCE_RANGE))

    def pixels(self, z: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Returns what the decoder makes of latents that are not normalised: about [-1, 1], not clamped."""
        frames: Tensor = self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))
        return frames
