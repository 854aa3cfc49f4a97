"""A KL-regularised autoencoder of clips that compresses in time as well: a causal 3-D VAE (Yu 2023, arXiv 2310.05737, §3.2).

Shape legend: b batch, c channels, t frames, h w height and width where they are, H W picture height and width, k latent frames,
p frames per latent frame, f pixels per latent position.

Convolutions see the past only; before a clip's beginning stands its first frame. So a latent frame depends on no frame after
those that it codes, the beginning of a clip has the same latents whatever follows, and a picture is a still clip. Frames that do
not fill whole groups of p are filled up with the first one, on the left: a clip of t frames has ``ceil(t / p)`` latent frames, of
which the first may code fewer than p. Group norms take each frame by itself.

As in the compact codec, encoder and decoder are residual around a linear map, here of blocks of p x f x f pixels in p frames.
"""

from collections.abc import Iterable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model_core.codec.autoencoder import LOG_VARIANCE_RANGE, Codec, Posterior, group_norm
from model_core.codec.causal_config import CausalConfig

_FRAMES_AT_A_TIME = 16
Past = dict[nn.Module, Tensor]
"""What convolutions have to remember of a clip's frames so far, so that it can be coded in parts."""


class CausalConv(nn.Module):
    """A convolution over time and space that sees no later frame (van den Oord 2016, arXiv 1609.03499, §2.1).

    Args:
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        frames: Frames that an output sees: its own ones and those just before.
        side: Side of the kernel in space, odd.
        stride: Steps in time and in space.
    """

    def __init__(self, in_channels: int, out_channels: int, *, frames: int, side: int, stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        in_time, in_space = stride
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            (frames, side, side),
            stride=(in_time, in_space, in_space),
            padding=(0, side // 2, side // 2),
        )
        self.reach = frames - in_time

    def forward(self, x: Float[Tensor, "b c_in t h w"], past: Past) -> Float[Tensor, "b c_out t2 h2 w2"]:
        """Returns the convolution of frames that follow those in `past`, where it leaves what the next ones need."""
        if self.reach:
            before = past.get(self, x[:, :, :1].expand(-1, -1, self.reach, -1, -1))
            x = torch.cat([before, x], dim=2)
            past[self] = x[:, :, -self.reach :]
        found: Tensor = self.conv(x)
        return found


class CausalBlock(nn.Module):
    """A convolution over time and space and one over space around an identity, which the block starts as."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
        self.conv1 = CausalConv(channels, channels, frames=3, side=3)
        self.conv2 = CausalConv(channels, channels, frames=1, side=3)
        _zero(self.conv2.conv)

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past) -> Float[Tensor, "b c t h w"]:
        """Returns x plus its learned correction."""
        y = self.conv1(functional.silu(each_frame(self.norm1, x)), past)
        correction: Tensor = self.conv2(functional.silu(each_frame(self.norm2, y)), past)
        return x + correction


class Unfold(nn.Module):
    """Doubles the resolution, and the number of frames where asked to, from channels (Shi 2016, arXiv 1609.05158)."""

    def __init__(self, in_channels: int, out_channels: int, *, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = CausalConv(in_channels, 4 * frames * out_channels, frames=1, side=1)

    def forward(self, x: Float[Tensor, "b c_in t h w"], past: Past) -> Float[Tensor, "b c_out t2 h2 w2"]:
        """Returns x at twice its height and width."""
        double: Tensor = rearrange(self.conv(x, past), "b (c p i j) t h w -> b c (t p) (h i) (w j)", p=self.frames, i=2, j=2)
        return double


class CausalEncoder(nn.Module):
    """Clips to the parameters of the posterior."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        widths, factor, p = config.encoder_widths, config.downscale, config.temporal_downscale
        self.patch = nn.Conv3d(3, config.latent_channels, (p, factor, factor), stride=(p, factor, factor))
        layers: list[nn.Module] = [CausalConv(3, widths[0], frames=1, side=3)]
        for level, (width, num_blocks) in enumerate(zip(widths, config.encoder_blocks, strict=True)):
            if level > 0:
                frames, in_time = (3, 2) if config.halves_time(level) else (1, 1)
                layers.append(CausalConv(widths[level - 1], width, frames=frames, side=3, stride=(in_time, 2)))
            layers.extend(CausalBlock(width) for _ in range(num_blocks))
        self.layers, self.norm = nn.ModuleList(layers), group_norm(widths[-1])
        self.deterministic = config.posterior == "deterministic"
        self.out = nn.Conv3d(widths[-1], (1 if self.deterministic else 2) * config.latent_channels, (1, 3, 3), padding=(0, 1, 1))
        _zero(self.out)

    def forward(
        self, x: Float[Tensor, "b 3 t H W"], past: Past
    ) -> tuple[Float[Tensor, "b c k h w"], Float[Tensor, "b c k h w"] | None]:
        """Returns mean and log variance of the posterior of whole groups of frames; no log variance where it is a point."""
        found: Tensor = self.out(functional.silu(each_frame(self.norm, _through(self.layers, x, past))))
        if self.deterministic:
            return found + self.patch(x), None
        mean, log_variance = found.chunk(2, dim=1)  # each [b c k h w]
        return mean + self.patch(x), log_variance.clamp(*LOG_VARIANCE_RANGE)


class CausalDecoder(nn.Module):
    """Latents to clips."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        widths, factor, p = config.decoder_widths, config.downscale, config.temporal_downscale
        self.patch = nn.ConvTranspose3d(config.latent_channels, 3, (p, factor, factor), stride=(p, factor, factor))
        layers: list[nn.Module] = [CausalConv(config.latent_channels, widths[-1], frames=3, side=3)]
        for level in reversed(range(config.num_levels)):
            layers.extend(CausalBlock(widths[level]) for _ in range(config.decoder_blocks[level]))
            if level > 0:
                layers.append(Unfold(widths[level], widths[level - 1], frames=2 if config.halves_time(level) else 1))
        self.layers, self.norm = nn.ModuleList(layers), group_norm(widths[0])
        self.out = nn.Conv3d(widths[0], 3, (1, 3, 3), padding=(0, 1, 1))
        _zero(self.out)

    def forward(self, z: Float[Tensor, "b c k h w"], past: Past) -> Float[Tensor, "b 3 t H W"]:
        """Returns pixels, about [-1, 1]."""
        found = self.out(functional.silu(each_frame(self.norm, _through(self.layers, z, past))))
        return self.patch(z) + found  # type: ignore[no-any-return]  # modules return Any


class CausalCodec(Codec):
    """A codec of clips; it encodes and decodes as every codec does, with fewer latent frames than frames.

    Clips of any length are coded a few frames at a time: what memory holds beside a clip and its latents does not grow with it.

    Args:
        config: Architecture and latent statistics; without statistics latents are left as the encoder makes them.
    """

    config: CausalConfig
    memory_format = torch.channels_last_3d

    def __init__(self, config: CausalConfig) -> None:
        super().__init__(config)

    def _make_networks(self) -> None:
        self.encoder, self.decoder = CausalEncoder(self.config), CausalDecoder(self.config)

    def posterior(self, frames: Float[Tensor, "b 3 t H W"]) -> Posterior:
        """Returns the posterior of clips with values in [-1, 1]."""
        past: Past = {}
        x = filled_up(frames, self.config.temporal_factor).contiguous(memory_format=self.memory_format)
        means, log_variances = zip(*(self.encoder(part, past) for part in torch.split(x, _FRAMES_AT_A_TIME, dim=2)), strict=True)
        return Posterior(
            mean=torch.cat(means, dim=2),
            log_variance=None if log_variances[0] is None else torch.cat(log_variances, dim=2),
        )

    def pixels(self, z: Float[Tensor, "b c k h w"]) -> Float[Tensor, "b 3 t H W"]:
        """Returns what the decoder makes of latents that are not normalised: whole groups of frames, about [-1, 1]."""
        past: Past = {}
        z = z.contiguous(memory_format=self.memory_format)
        at_a_time = _FRAMES_AT_A_TIME // self.config.temporal_factor
        return torch.cat([self.decoder(part, past) for part in torch.split(z, at_a_time, dim=2)], dim=2)

    def _modes(self, clips: Float[Tensor, "b 3 t H W"]) -> Float[Tensor, "b c k h w"]:
        return self.posterior(clips).mode()

    def _clips(self, z: Float[Tensor, "b c k h w"]) -> Float[Tensor, "b 3 t H W"]:
        return self.pixels(z)


def filled_up(clips: Float[Tensor, "b 3 t H W"], factor: int) -> Float[Tensor, "b 3 t2 H W"]:
    """Returns clips of a multiple of `factor` frames: the first frame repeated before those that are short of one."""
    missing = -clips.shape[2] % factor
    return torch.cat([clips[:, :, :1].expand(-1, -1, missing, -1, -1), clips], dim=2) if missing else clips


def each_frame(norm: nn.Module, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """Returns each frame normalised by itself: statistics over time would let the future be seen."""
    normed: Tensor = norm(rearrange(x, "b c t h w -> (b t) c h w"))
    return rearrange(normed, "(b t) c h w -> b c t h w", b=len(x))


def _through(layers: Iterable[nn.Module], x: Tensor, past: Past) -> Tensor:
    for layer in layers:
        x = layer(x, past)
    return x


def _zero(conv: nn.Conv3d) -> None:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # a convolution made with a bias has one
