"""Published checkpoints in both layouts: read to the predictions of the networks that they are of, or refused in one line."""

import argparse
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.peers.dit_reference import ReferenceDiT
from model_core.errors import BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.public_checkpoints import read_diffusers_dit, read_facebook_dit

SIDE, HEADS, LABELS, WIDTH, DEPTH = 8, 4, 5, 48, 3
TIMES, CLASSES = torch.tensor([0.0, 17.0, 999.0]), torch.tensor([0, LABELS, 2])


def published_network():
    """A small network with the published one's parts, away from zero."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"input_size": SIDE, "hidden_size": WIDTH, "depth": DEPTH, "num_heads": HEADS, "num_classes": LABELS}
    model = ReferenceDiT(**sizes, fused_attention=False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False)


def latents():
    return torch.randn(3, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def predict(read):
    model = DiT(read.architecture).requires_grad_(False)
    model.load_state_dict(dict(read.weights))
    none = torch.zeros(3, dtype=torch.bool)
    return model(latents()[:, :, None], TIMES, CLASSES, torch.zeros(3, 0), none)[:, :, 0]


def write_facebook(folder: Path) -> Path:
    """A `.pt` file as facebookresearch/DiT publishes it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(published_network().state_dict(), folder / "DiT-tiny.pt")
    return folder / "DiT-tiny.pt"


def diffusers_network():
    """diffusers' own network with the published weights: it starts from ours through the library's names."""
    from diffusers import DiTTransformer2DModel

    theirs = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=4,
        out_channels=8,
        num_layers=DEPTH,
        sample_size=SIDE,
        num_embeds_ada_norm=LABELS,
        norm_eps=1e-6,
    ).eval()
    generator = torch.Generator().manual_seed(0)
    shared: dict[str, torch.Tensor] = {}
    for name, parameter in theirs.named_parameters():
        drawn = 0.1 * torch.randn(parameter.shape, generator=generator)
        kind = name.split(".emb.")[-1]
        parameter.data = shared.setdefault(kind, drawn).clone() if ".emb." in name else drawn  # a copy in each block
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # as published; the library's 1 is another network
    return theirs.requires_grad_(False)


def write_diffusers(folder: Path) -> Path:
    """A folder as diffusers' DiTPipeline is published."""
    diffusers_network().save_pretrained(folder / "transformer")
    (folder / "scheduler").mkdir()
    schedule = {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**schedule, "num_train_timesteps": 1000}))
    named = {str(place): name for place, name in enumerate(("tench", "crane", "shark", "crane", "owl"))}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline", "id2label": named}))
    return folder


def test_a_published_file_gives_the_published_prediction(tmp_path):
    read = read_facebook_dit(write_facebook(tmp_path), tmp_path, num_heads=HEADS)
    assert (read.side, read.architecture.num_labels, read.architecture.learn_variance) == (SIDE, LABELS, True)
    expected = published_network()(latents(), TIMES, CLASSES)
    torch.testing.assert_close(predict(read), expected, atol=1e-5, rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DiT-tiny.pt"]


def test_of_a_training_checkpoint_the_averaged_weights_are_read(tmp_path):
    state = published_network().state_dict()
    other = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": other, "ema": state, "opt": {"state": {}}, "args": argparse.Namespace(lr=1e-4)}, tmp_path / "0400000.pt")
    read = read_facebook_dit(tmp_path / "0400000.pt", tmp_path, num_heads=HEADS)
    assert torch.equal(read.weights["final_layer.linear.bias"], state["final_layer.linear.bias"])


def test_heads_that_no_size_of_the_paper_tells_have_to_be_said(tmp_path):
    with pytest.raises(BadModelError, match="depth 3 and width 48 is none of the paper's") as caught:
        read_facebook_dit(write_facebook(tmp_path), tmp_path)
    assert "--num-heads" in caught.value.hint


def test_a_diffusers_folder_gives_the_prediction_of_diffusers_own_network(tmp_path):
    read = read_diffusers_dit(write_diffusers(tmp_path))
    assert read.labels == ("tench", "crane (1)", "shark", "crane (3)", "owl")
    expected = diffusers_network()(latents(), TIMES.long(), CLASSES).sample
    assert expected.abs().mean() > 0.05
    torch.testing.assert_close(predict(read), expected, atol=1e-5, rtol=1e-5)


class _Hostile:
    """Runs a command when it is unpickled by whoever is careless."""

    def __init__(self, told):
        self.told = told

    def __reduce__(self):
        return os.system, (f"touch {self.told}",)


def _save(path, content):
    torch.save(content, path)


def _cut(path, _):
    path.write_bytes(path.read_bytes()[:-200])


def _lacking(path, _):
    state = published_network().state_dict()
    del state["blocks.1.attn.qkv.bias"]
    _save(path, state)


def _without_positions(path, _):
    state = published_network().state_dict()
    del state["pos_embed"]
    _save(path, state)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_cut, "the checkpoint cannot be read"),
        (lambda path, told: _save(path, {"ema": _Hostile(told)}), "a pickle that names posix.system"),
        (lambda path, told: path.write_bytes(pickle.dumps(_Hostile(told))), "the checkpoint cannot be read: it is"),
        (lambda path, _: path.write_bytes(b"not a checkpoint at all"), "the checkpoint cannot be read"),
        (lambda path, _: path.write_bytes(b""), "the checkpoint cannot be read"),
        (lambda path, _: _save(path, [torch.zeros(2)]), "it holds a list, not a state dict"),
        (lambda path, _: _save(path, {"a": 3}), "'a' in it is no plain tensor"),
        (lambda path, _: _save(path, {"a": torch.zeros(2)}), "no pos_embed"),
        (lambda path, _: _save(path, {**published_network().state_dict(), "more": torch.zeros(2)}), "lack or add: more"),
        (_lacking, r"lack or add: blocks.1.attn.qkv.bias"),
        (_without_positions, "no pos_embed"),
    ],
)
def test_a_hostile_or_damaged_file_is_refused_in_one_line_and_runs_nothing(tmp_path, harm, told):
    path, ran = write_facebook(tmp_path), tmp_path / "ran"
    harm(path, ran)
    with pytest.raises(BadModelError, match=told) as caught:
        read_facebook_dit(path, tmp_path, num_heads=HEADS)
    assert "\n" not in caught.value.diagnosis
    assert sorted(one.name for one in tmp_path.iterdir()) == ["DiT-tiny.pt"]


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    large, bomb = tmp_path / "large.pt", tmp_path / "bomb.pt"
    torch.save({"a": torch.zeros(700 << 20, dtype=torch.uint8)}, large)
    with zipfile.ZipFile(large) as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name in plain.namelist():
            with plain.open(name) as source, packed.open(name, "w") as target:
                shutil.copyfileobj(source, target, 1 << 24)
    large.unlink()
    with pytest.raises(BadModelError, match="unpacks to far more than its own size"):
        read_facebook_dit(bomb, tmp_path, num_heads=HEADS)


def _change_config(folder, **values):
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _change_tensors(folder, change):
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _cut_tensors(folder):
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])


_SECOND = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: _change_config(folder, _class_name="PixArtTransformer2DModel"), "is of a 'PixArtTransformer2DModel'"),
        (lambda folder: _change_config(folder, norm_type="ada_norm_single"), "norm_type is 'ada_norm_single'"),
        (lambda folder: _change_config(folder, sample_size="8"), "neither heads nor sample_size"),
        (lambda folder: _change_config(folder, num_attention_heads=7), "not a multiple of num_heads"),
        (lambda folder: (folder / "transformer" / "config.json").write_text("["), "transformer/config.json cannot be read"),
        (lambda folder: (folder / "model_index.json").write_text('{"id2label": {"0": "owl"}}'), "does not name the 5 labels"),
        (
            lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_schedule": "scaled_linear"}'),
            "beta_schedule is 'scaled_linear'",
        ),
        (_cut_tensors, "no complete safetensors file"),
        (lambda folder: _change_tensors(folder, lambda found: found.update(more=torch.zeros(2))), "of another network: 'more'"),
        (
            lambda folder: _change_tensors(folder, lambda found: found.pop("proj_out_2.bias")),
            "final_layer.linear.bias",
        ),
        (lambda folder: _change_tensors(folder, lambda found: found[_SECOND].add_(1)), "copies of an embedder differ"),
        (
            lambda folder: _change_tensors(folder, lambda found: found.pop("transformer_blocks.0.attn1.to_k.weight")),
            "lacks queries, keys or values",
        ),
    ],
)
def test_a_diffusers_folder_of_another_network_or_damaged_is_refused_in_one_line(tmp_path, harm, told):
    folder = write_diffusers(tmp_path)
    harm(folder)
    with pytest.raises(BadModelError, match=told) as caught:
        read_diffusers_dit(folder)
    assert "\n" not in caught.value.diagnosis
