"""Each part that may replace one of the paper's, against its equation written another way."""

import dataclasses

import numpy as np
import pytest
import torch

from model_core.transformer.attention import Attention
from model_core.transformer.dit import DiT
from model_core.transformer.layout import TokenLayout
from model_core.transformer.mlp import make_mlp
from model_core.transformer.norms import HeadNorm, make_norm
from tests.model_core.transformer.networks import awake, condition, config, latents


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _with(model: DiT, changed: dict[str, torch.Tensor]) -> DiT:
    """Returns the network with some weights changed."""
    model.load_state_dict({**model.state_dict(), **changed})
    return model


def test_the_root_mean_square_norm_is_its_formula():
    x = _random(2, 5, 16)
    expected = x.numpy() / np.sqrt((x.numpy() ** 2).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(make_norm("rms", 16)(x).numpy(), expected, rtol=1e-5)
    heads = _random(2, 5, 3, 8)
    norm = HeadNorm(8)
    norm.weight.data = _random(8, seed=1)
    expected = norm.weight.detach().numpy() * heads.numpy() / np.sqrt((heads.numpy() ** 2).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(norm(heads).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_attention_with_normalised_queries_and_keys_does_not_depend_on_their_length():
    layout, x = TokenLayout.batch(2, (1, 2, 3)), _random(2, 6, 32)
    for qk_norm in (True, False):
        torch.manual_seed(0)
        attention = Attention(config(qk_norm=qk_norm)).requires_grad_(requires_grad=False)
        before = attention(x, layout)
        attention.qkv.weight[:64] *= 8
        attention.qkv.bias[:64] *= 8
        assert torch.allclose(attention(x, layout), before, atol=1e-5) == qk_norm


def test_swiglu_is_its_formula():
    mlp = make_mlp(config(mlp="swiglu")).requires_grad_(requires_grad=False)
    x = _random(2, 5, 32)
    gate, hidden = (x.numpy() @ layer.weight.numpy().T + layer.bias.numpy() for layer in (mlp.gate, mlp.fc1))
    expected = (gate / (1 + np.exp(-gate)) * hidden) @ mlp.fc2.weight.numpy().T + mlp.fc2.bias.numpy()
    np.testing.assert_allclose(mlp(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_shared_modulation_is_every_blocks_own_with_equal_weights_and_an_offset_in_the_bias():
    shared = awake(config(modulation="shared"))
    layer, own = shared.shared_modulation[1], awake(config())
    weights = {name: tensor for name, tensor in shared.state_dict().items() if name in own.state_dict()}
    for place, block in enumerate(shared.blocks):
        weights[f"blocks.{place}.adaLN_modulation.1.weight"] = layer.weight
        weights[f"blocks.{place}.adaLN_modulation.1.bias"] = layer.bias + block.modulation_offset
    arguments = (latents(2), torch.tensor([10.0, 900.0]), condition(2))
    found, expected = shared.predict(*arguments), _with(own, weights).predict(*arguments)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert shared.num_parameters < own.num_parameters


@pytest.mark.parametrize("depth", [4, 5])
def test_a_long_skip_joins_the_first_halfs_tokens_to_their_mirror_image(depth):
    """With the identity on what comes from the middle it changes nothing; with it on what skipped, the middle is not seen."""
    arguments = (latents(2), torch.tensor([10.0, 900.0]), condition(2))
    skipping = awake(config(depth=depth, long_skips=True))
    identity, nothing = torch.eye(32), torch.zeros(32, 32)
    last = depth - 1

    def joined(place, *halves):
        return {f"blocks.{place}.skip.weight": torch.cat(halves, dim=1), f"blocks.{place}.skip.bias": torch.zeros(32)}

    transparent = {}
    for place in range(depth - depth // 2, depth):
        transparent |= joined(place, identity, nothing)
    plain = awake(config(depth=depth))
    kept = {name: tensor for name, tensor in skipping.state_dict().items() if ".skip." not in name}
    expected = _with(plain, kept).predict(*arguments)
    torch.testing.assert_close(_with(skipping, transparent).predict(*arguments), expected, rtol=1e-5, atol=1e-5)

    around = _with(skipping, joined(last, nothing, identity)).predict(*arguments)  # the first block's tokens, for the last block
    short = DiT(dataclasses.replace(plain.config, depth=2)).requires_grad_(requires_grad=False)
    ends = {name.replace(f"blocks.{last}.", "blocks.1."): kept[name] for name in kept if _of_an_end(name, last)}
    torch.testing.assert_close(around, _with(short, ends).predict(*arguments), rtol=1e-5, atol=1e-5)


def _of_an_end(name: str, last: int) -> bool:
    return not name.startswith("blocks.") or name.split(".")[1] in {"0", str(last)}
