import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.flops import forward_flops, matmul_flops

BASE = TransformerConfig(
    in_channels=4, patch_size=(1, 2, 2), hidden_size=24, depth=3, num_heads=2, num_labels=5, text_dim=7, frequency_dim=16
)
PICTURE, CLIP = (1, 6, 4), (3, 4, 6)
CHANGES = [
    {},
    {"learn_variance": True},
    {"mlp": "swiglu", "mlp_ratio": 2.7},
    {"modulation": "shared"},
    {"attention": "factorised"},
    {"attention": "factorised", "modulation": "shared", "mlp": "swiglu"},
    {"text_conditioning": "cross_attention"},
    {"text_conditioning": "none"},
    {"text_dim": 0},
    {"long_skips": True, "depth": 5},
    {"positions": "rope", "qk_norm": True, "norm": "rms"},
]


def _counted(config, latent_sides, batch_size, *, backward=False, text_tokens=5):
    model = DiT(config, generator=torch.Generator().manual_seed(0))
    x_t = torch.zeros(batch_size, config.in_channels, *latent_sides)
    states = torch.zeros(batch_size, text_tokens, config.text_dim) if config.reads_text_states else None
    arguments = (
        x_t,
        torch.zeros(batch_size),
        torch.zeros(batch_size, dtype=torch.long),
        torch.zeros(batch_size, config.text_dim),
        torch.ones(batch_size, dtype=torch.bool),
        states,
    )
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = model(*arguments)
        if backward:
            output.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("sides", [PICTURE, CLIP])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "-".join(map(str, change.values())) or "default")
def test_torch_counts_as_many(change, sides):
    config = dataclasses.replace(BASE, **change)
    grid = config.grid((4, *sides))
    assert forward_flops(config, grid, 2, text_tokens=5) == _counted(config, sides, 2)


def test_training_is_three_forward_passes_but_for_the_gradient_of_the_latents():
    forward, both = (_counted(BASE, PICTURE, 2, backward=backward) for backward in (False, True))
    first_layer = matmul_flops(2 * 6, 16, 24)
    time_layer = matmul_flops(2, 16, 24)
    text_layer = matmul_flops(2, 7, 24)
    assert both == 3 * forward - first_layer - time_layer - text_layer


def test_work_grows_with_the_batch_alone_and_faster_with_tokens():
    assert forward_flops(BASE, (1, 3, 2), 10) == 10 * forward_flops(BASE, (1, 3, 2), 1)
    assert forward_flops(BASE, (1, 6, 4), 1) > 3 * forward_flops(BASE, (1, 3, 2), 1)
