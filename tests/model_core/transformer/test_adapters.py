"""Low-rank adapters: they start as the base, merge into it, and are read back only where they belong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_core.errors import BadModelError
from model_core.transformer.adapter_config import AdapterConfig
from model_core.transformer.adapter_file import Adapter, load_adapter, save_adapter
from model_core.transformer.adapters import ADDED_LABELS, adapter_shapes, add_adapters, merged_weights, widened_architecture
from model_core.transformer.dit import DiT
from tests.model_core.transformer.networks import CONFIG, OPTIONS, awake, condition, config

ADAPTER = AdapterConfig(rank=2, alpha=4.0)
BASE = {"name": "base", "version": 1, "root_digest": "ab" * 32}


def adapted(architecture=CONFIG, adapter=ADAPTER, *, num_added=0, moved=False):
    """A network with adapters; moved ones are as after training."""
    model = awake(architecture)
    add_adapters(model, adapter, num_added=num_added, generator=torch.Generator().manual_seed(3))
    if moved:
        generator = torch.Generator().manual_seed(4)
        for parameter in learnt(model).values():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def learnt(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def tensors_of(model):
    return {name: parameter.detach() for name, parameter in learnt(model).items()}


def predict(model, *, labels=None):
    asked = condition(4)
    asked = asked if labels is None else type(asked)(**{**vars(asked), "labels": labels})
    x = torch.randn(4, 4, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.predict(x, torch.tensor([0.0, 250.0, 600.0, 1000.0]), asked)


def plain(architecture, weights):
    model = DiT(architecture)
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_at_the_start_the_adapted_network_is_the_base_to_the_bit(options):
    architecture = config(**options)
    assert torch.equal(predict(adapted(architecture)), predict(awake(architecture)))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_merged_weights_are_a_plain_network_that_computes_the_same(options):
    architecture = config(**options)
    model = adapted(architecture, num_added=2, moved=True)
    base = dict(awake(architecture).named_parameters())
    merged = plain(widened_architecture(architecture, 2), merged_weights(base, tensors_of(model), ADAPTER))
    labels = torch.tensor([0, 3, 4, 5])  # of the base, both new ones, none
    expected = predict(model, labels=labels)
    torch.testing.assert_close(predict(merged, labels=labels), expected, rtol=0, atol=2e-5)
    assert not torch.allclose(expected, predict(awake(architecture)), atol=1e-2)


def test_only_adapters_and_rows_of_new_labels_get_gradients():
    model = adapted(num_added=1)
    assert set(learnt(model)) == set(adapter_shapes(CONFIG, ADAPTER, num_added=1))
    asked = condition(4)
    x = torch.randn(4, 4, 1, 4, 4)
    model.predict(x, torch.tensor([0.0, 250.0, 600.0, 1000.0]), asked).square().mean().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == set(learnt(model))


def test_a_new_label_begins_as_none_and_leaves_those_of_the_base_where_they_were():
    model = adapted(num_added=2)
    new, none = predict(model, labels=torch.tensor([3, 4, 3, 4])), predict(model, labels=torch.tensor([5, 5, 5, 5]))
    assert torch.equal(new, none)
    known = torch.tensor([0, 1, 2, 0])
    assert torch.equal(predict(model, labels=known), predict(awake(), labels=known))


def test_an_adapter_is_tens_of_times_smaller_than_its_base():
    wide = config(hidden_size=256, num_heads=4, depth=2)
    with torch.device("meta"):
        num_base = DiT(wide).num_parameters
    sizes = [torch.Size(shape).numel() for shape in adapter_shapes(wide, AdapterConfig(rank=4), num_added=0).values()]
    assert sum(sizes) * 20 < num_base


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (("attn.qkv",), {"attn.qkv"}),
        (("attn", "fc2"), {"attn.qkv", "attn.proj", "mlp.fc2"}),
        (None, {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}),
    ],
)
def test_targets_name_layers_of_every_block(targets, layers):
    found = adapter_shapes(CONFIG, AdapterConfig(rank=2, targets=targets), num_added=0)
    assert {name.rpartition(".")[0] for name in found} == {f"blocks.{n}.{layer}" for n in range(CONFIG.depth) for layer in layers}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"targets": ("attn", "qvk")}, "no linear layer is called 'qvk'"),
        ({"rank": 33}, "rank 33 is larger than the layer blocks.0.attn.qkv, of 32"),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"targets": ("",)}, "no target is named"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(change, told):
    with pytest.raises(BadModelError, match=told):
        adapter_shapes(CONFIG, AdapterConfig(**{"rank": 2, **change}), num_added=0)


@pytest.fixture
def folder(tmp_path):
    model = adapted(num_added=1, moved=True)
    save_adapter(Adapter(config=ADAPTER, added_labels=("mug",), base=BASE, tensors=tensors_of(model)), tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_read_as_it_was_written(folder, tmp_path):
    found = load_adapter(folder, CONFIG)
    assert (found.config, found.added_labels, found.base) == (ADAPTER, ("mug",), BASE)
    expected = tensors_of(adapted(num_added=1, moved=True))
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())
    save_adapter(found, tmp_path / "again")
    assert all((tmp_path / "again" / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def _cut(folder):
    path = folder / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def _change_tensors(folder, change):
    path = folder / "adapter.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _link(folder):
    path = folder / "adapter.safetensors"
    path.symlink_to(path.rename(folder / "elsewhere"))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_cut, "no complete safetensors file"),
        (lambda folder: _change_config(folder, rank=3), r"\[2, 32\], expected torch.float32 \[3, 32\]"),
        (lambda folder: _change_config(folder, added_labels=["mug", "cup"]), r"\[1, 32\], expected torch.float32 \[2, 32\]"),
        (lambda folder: _change_config(folder, rank="2"), "a value of a wrong type"),
        (lambda folder: _change_config(folder, format="lora/1"), "not the configuration of an adapter"),
        (lambda folder: _change_config(folder, base=None), "not the configuration of an adapter"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be read"),
        (lambda folder: _change_tensors(folder, lambda found: found.update(more=torch.zeros(2))), "other tensors.*more"),
        (lambda folder: _change_tensors(folder, lambda found: found.pop(ADDED_LABELS)), "other tensors.*y_embedder.added"),
        (lambda folder: _change_tensors(folder, lambda found: found[ADDED_LABELS].fill_(float("nan"))), "not finite"),
        (lambda folder: (folder / "adapter.safetensors").write_bytes(b"PK\x03\x04" + b"x" * 50), "no complete safetensors"),
        (lambda folder: (folder / "adapter.safetensors").unlink(), "does not exist"),
        (_link, "no regular file"),
    ],
)
def test_an_adapter_that_is_not_whole_or_of_another_base_is_refused_in_one_line(folder, harm, told):
    harm(folder)
    with pytest.raises(BadModelError, match=told) as caught:
        load_adapter(folder, CONFIG)
    assert "\n" not in caught.value.diagnosis


def test_an_adapter_of_another_architecture_is_refused(folder):
    with pytest.raises(BadModelError, match="other tensors"):
        load_adapter(folder, config(depth=2))
    with pytest.raises(BadModelError, match=r"expected torch\.float32"):
        load_adapter(folder, config(hidden_size=16))
