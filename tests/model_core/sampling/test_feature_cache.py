import dataclasses

import pytest
import torch

from model_core.errors import BadDataError, BadModelError
from model_core.sampling.feature_cache import cached_features
from model_core.sampling.sample import sample_latents
from model_core.transformer.blocks import AdaLNZeroBlock
from tests.model_core.sampling.model import condition, latents, model_config, transformer
from tests.model_core.toy_latents import ARCHITECTURE, SHAPE


def _sample(model, interval, *, num_steps=6, guidance_scale=1.0):
    return sample_latents(
        model,
        model_config(),
        noise=latents(),
        condition=condition(),
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        cache_interval=interval,
    )


def _counting(model):
    calls = {"attn": 0, "mlp": 0}
    for block in model.blocks:
        assert isinstance(block, AdaLNZeroBlock)
        block.attn.qkv.register_forward_hook(lambda *_: calls.update(attn=calls["attn"] + 1))
        block.mlp.fc1.register_forward_hook(lambda *_: calls.update(mlp=calls["mlp"] + 1))
    return calls


@pytest.mark.parametrize(("interval", "computed"), [(1, 6), (2, 3), (3, 2), (4, 2), (100, 1)])
def test_sublayers_are_computed_in_every_nth_call_only(interval, computed):
    model = transformer()
    calls = _counting(model)
    _sample(model, interval)
    assert calls == {"attn": 2 * computed, "mlp": 2 * computed}


def test_an_interval_of_one_is_exactly_the_network_without_a_cache():
    model, time = transformer(), torch.full((3,), 500.0)
    expected = model.predict(latents(), time, condition())
    with cached_features(model, 1):
        assert torch.equal(model.predict(latents(), time, condition()), expected)
        assert torch.equal(model.predict(latents(), time, condition()), expected)
    assert torch.equal(_sample(model, 1), _sample(model, 1))


def test_a_call_between_uses_what_was_kept_under_its_own_modulations():
    model = transformer()
    early, late = torch.full((3,), 900.0), torch.full((3,), 100.0)
    with cached_features(model, 2):
        model.predict(latents(), early, condition())
        between = model.predict(latents(3), late, condition())
    kept = {}
    for number, block in enumerate(model.blocks):
        for name in ("attn", "mlp"):
            layer = getattr(block, name)
            layer.register_forward_hook(lambda module, args, output, key=(number, name): kept.setdefault(key, output))
    model.predict(latents(), early, condition())
    for number, block in enumerate(model.blocks):
        for name in ("attn", "mlp"):
            layer = getattr(block, name)
            layer.register_forward_hook(lambda module, args, output, key=(number, name): kept[key])
    torch.testing.assert_close(between, model.predict(latents(3), late, condition()))


def test_a_small_interval_stays_nearer_to_the_full_computation_than_a_large_one():
    model = transformer()
    exact = _sample(model, 1, num_steps=24)
    near = (_sample(model, 2, num_steps=24) - exact).abs().mean()
    far = (_sample(model, 24, num_steps=24) - exact).abs().mean()
    assert 0 < near < far


def test_another_batch_size_is_computed_anew():
    model = transformer()
    with cached_features(model, 100):
        model.predict(latents(), torch.full((3,), 900.0), condition())
        small = model.predict(latents(batch=2), torch.full((2,), 900.0), condition(2))
    torch.testing.assert_close(small, model.predict(latents(batch=2), torch.full((2,), 900.0), condition(2)))


def test_after_the_context_the_network_is_as_before_also_after_an_error():
    model, time = transformer(), torch.full((3,), 500.0)
    expected = model.predict(latents(), time, condition())
    with pytest.raises(BadModelError, match="2 channels"), cached_features(model, 5):
        model.predict(latents(4)[:, :2], time, condition())
    assert torch.equal(model.predict(latents(), time, condition()), expected)
    assert not [name for name, module in model.named_modules() if "forward" in vars(module)]


def test_attention_over_time_is_cached_too():
    model = transformer(dataclasses.replace(ARCHITECTURE, attention="factorised"))
    x_t = torch.randn(3, SHAPE[0], 2, *SHAPE[2:], generator=torch.Generator().manual_seed(0))
    computed = []
    for block in model.blocks:
        block.temporal_attn.qkv.register_forward_hook(lambda *_: computed.append(1))
    with cached_features(model, 2):
        for timestep in (900.0, 800.0, 700.0):
            model.predict(x_t, torch.full((3,), timestep), condition())
    assert len(computed) == 2 * 2


@pytest.mark.parametrize("interval", [0, -1])
def test_an_interval_below_one_is_refused(interval):
    with pytest.raises(BadDataError, match="interval is"), cached_features(transformer(), interval):
        pass
