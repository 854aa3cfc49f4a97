import pytest
import torch

from model_core.errors import BadModelError
from model_core.transformer.blocks import AdaLNZeroBlock
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.layout import TokenLayout

CONFIG = TransformerConfig(in_channels=4, patch_size=(1, 2, 2), hidden_size=16, depth=2, num_heads=2, num_labels=3, text_dim=5)


def _model(config=CONFIG, *, seed=0):
    return DiT(config, generator=torch.Generator().manual_seed(seed))


def _awake(config=CONFIG):
    """A model whose gates and output have left zero, so that everything in it matters."""
    model = _model(config)
    generator = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False)


def _inputs(batch=2, shape=(4, 1, 4, 4)):
    generator = torch.Generator().manual_seed(1)
    return {
        "x_t": torch.randn(batch, *shape, generator=generator),
        "timestep": torch.linspace(0, 1000, batch),
        "labels": torch.arange(batch) % 4,
        "text": torch.randn(batch, 5, generator=generator),
        "text_mask": torch.ones(batch, dtype=torch.bool),
    }


def _through(block, x, c):
    return block(x, block.modulation(c, None), TokenLayout.batch(len(x), (1, 2, 3)))


def test_an_untrained_block_is_the_identity_and_an_untrained_model_predicts_zero():
    model = _model()
    x = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    for block in model.blocks:
        assert isinstance(block, AdaLNZeroBlock)
        assert torch.equal(_through(block, x, torch.randn(2, 16)), x)
    assert torch.equal(model(**_inputs()), torch.zeros(2, 4, 1, 4, 4))


def test_initial_weights_follow_from_the_generator_alone():
    first = _model(seed=3).state_dict()
    torch.manual_seed(123)
    second = _model(seed=3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["x_embedder.weight"], _model(seed=4).state_dict()["x_embedder.weight"])


@pytest.mark.parametrize("shape", [(4, 1, 4, 4), (4, 1, 2, 6), (4, 3, 4, 2)])
def test_any_size_goes_through_the_same_weights(shape):
    inputs = _inputs(shape=shape)
    assert _awake()(**inputs).shape == inputs["x_t"].shape


def test_each_condition_changes_the_prediction_and_a_masked_caption_is_not_read():
    model, inputs = _awake(), _inputs()
    base = model(**inputs)
    for name, other in [("labels", torch.tensor([3, 3])), ("timestep", torch.tensor([5.0, 7.0])), ("text", torch.ones(2, 5))]:
        assert (model(**{**inputs, name: other}) - base).abs().max() > 1e-4
    masked = {**inputs, "text_mask": torch.zeros(2, dtype=torch.bool)}
    assert torch.equal(model(**masked), model(**{**masked, "text": torch.zeros(2, 5)}))


def test_samples_of_a_batch_do_not_see_each_other():
    model, inputs = _awake(), _inputs(batch=3)
    alone = model(**{name: value[1:2] for name, value in inputs.items()})
    torch.testing.assert_close(model(**inputs)[1:2], alone, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter():
    model = _awake().requires_grad_(True)
    inputs = _inputs()
    inputs["text_mask"] = torch.tensor([True, False])
    model(**inputs).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_model_without_captions_has_no_caption_weights():
    config = TransformerConfig(in_channels=4, hidden_size=16, depth=1, num_heads=2, num_labels=0)
    model = DiT(config)
    assert not [name for name, _ in model.named_parameters() if name.startswith("text")]
    inputs = {**_inputs(), "labels": torch.zeros(2, dtype=torch.int64)}
    assert model(**inputs).shape == (2, 4, 1, 4, 4)


def test_latents_of_another_shape_are_refused():
    inputs = _inputs()
    with pytest.raises(BadModelError, match="expected"):
        _model()(**{**inputs, "x_t": inputs["x_t"][:, :, 0]})
    with pytest.raises(BadModelError, match="do not divide"):
        _model()(**{**inputs, "x_t": torch.zeros(2, 4, 1, 3, 4)})


def _copy_into_diffusers_block(block, target):
    q, k, v = block.attn.qkv.weight.chunk(3)
    q_bias, k_bias, v_bias = block.attn.qkv.bias.chunk(3)
    pairs = {
        "norm1.linear.weight": block.adaLN_modulation[1].weight,
        "norm1.linear.bias": block.adaLN_modulation[1].bias,
        "attn1.to_q.weight": q,
        "attn1.to_q.bias": q_bias,
        "attn1.to_k.weight": k,
        "attn1.to_k.bias": k_bias,
        "attn1.to_v.weight": v,
        "attn1.to_v.bias": v_bias,
        "attn1.to_out.0.weight": block.attn.proj.weight,
        "attn1.to_out.0.bias": block.attn.proj.bias,
        "ff.net.0.proj.weight": block.mlp.fc1.weight,
        "ff.net.0.proj.bias": block.mlp.fc1.bias,
        "ff.net.2.weight": block.mlp.fc2.weight,
        "ff.net.2.bias": block.mlp.fc2.bias,
    }
    state = target.state_dict()
    for name, value in pairs.items():
        state[name] = value.detach().clone()
    target.load_state_dict(state)


def test_a_block_computes_what_diffusers_block_computes_with_the_same_weights():
    from diffusers.models.attention import BasicTransformerBlock

    block = _awake().blocks[0]
    theirs = BasicTransformerBlock(
        dim=16,
        num_attention_heads=2,
        attention_head_dim=8,
        num_embeds_ada_norm=3,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_eps=1e-6,
    ).requires_grad_(False)
    _copy_into_diffusers_block(block, theirs)
    generator = torch.Generator().manual_seed(4)
    x, c = torch.randn(2, 6, 16, generator=generator), torch.randn(2, 16, generator=generator)
    theirs.norm1.emb.forward = lambda *args, **kwargs: c
    expected = theirs(x, timestep=torch.zeros(2), class_labels=torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(_through(block, x, c), expected, atol=1e-5, rtol=1e-5)
