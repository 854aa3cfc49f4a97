"""Small networks and inputs for the tests of this room."""

from typing import Any

import torch

from model_core.diffusion.condition import Condition
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT

CONFIG = TransformerConfig(in_channels=4, patch_size=(1, 2, 2), hidden_size=32, depth=3, num_heads=2, num_labels=3, text_dim=5)
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "variance": {"learn_variance": True},
    "rms": {"norm": "rms"},
    "swiglu": {"mlp": "swiglu"},
    "rope": {"positions": "rope"},
    "qk_norm": {"qk_norm": True},
    "shared": {"modulation": "shared"},
    "factorised": {"attention": "factorised"},
    "cross": {"text_conditioning": "cross_attention"},
    "uncaptioned": {"text_conditioning": "none"},
    "skips": {"long_skips": True},
    "all": {
        "learn_variance": True,
        "norm": "rms",
        "mlp": "swiglu",
        "positions": "rope",
        "qk_norm": True,
        "modulation": "shared",
        "attention": "factorised",
        "text_conditioning": "cross_attention",
        "long_skips": True,
    },
}


def config(**changes: Any) -> TransformerConfig:
    """Returns the small architecture with changes."""
    return TransformerConfig(**{**CONFIG.to_dict(), "patch_size": CONFIG.patch_size, **changes})


def awake(architecture: TransformerConfig = CONFIG, *, scale: float = 0.1) -> DiT:
    """Returns a network whose gates and output have left zero, so that everything in it matters."""
    model = DiT(architecture, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False)


def condition(count: int, *, num_tokens: int = 3, seed: int = 2) -> Condition:
    """Returns labels, captions and their tokens for so many samples; the last one has no caption."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, num_tokens, generator=generator) < 0.7
    mask[:, 0] = True
    return Condition(
        labels=torch.arange(count) % 4,
        text=torch.randn(count, 5, generator=generator),
        text_mask=torch.arange(count) != count - 1,
        text_states=torch.randn(count, num_tokens, 5, generator=generator),
        text_states_mask=mask,
    )


def latents(count: int, frames: int = 1, height: int = 4, width: int = 4, *, seed: int = 1) -> torch.Tensor:
    """Returns noised latents."""
    return torch.randn(count, 4, frames, height, width, generator=torch.Generator().manual_seed(seed))
