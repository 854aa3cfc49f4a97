"""Published DiT checkpoints: facebookresearch/DiT's `.pt` files and diffusers' folders, as weights and configuration of ours.

Both are the network of Peebles & Xie 2022 (arXiv 2212.09748). diffusers stores queries, keys and values apart, and the embedders
of timestep and label once a block; in converted checkpoints these copies are equal, and only then is it this network.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model_core.errors import BadModelError
from model_core.transformer.config import TransformerConfig
from model_core.transformer.convert_checkpoint import EXIT_REFUSED
from model_core.transformer.presets import heads_of
from model_core.transformer.reference_weights import from_reference, reference_architecture

Layout = Literal["facebook-dit", "diffusers"]
CHECKPOINT_NAME: Final = "checkpoint.pt"
TRANSFORMER, VAE = "transformer", "vae"
CONFIG_NAME, WEIGHTS_NAME = "config.json", "diffusion_pytorch_model.safetensors"
SCHEDULER_NAME, INDEX_NAME = "scheduler/scheduler_config.json", "model_index.json"
_TIMEOUT_S = 3600
_POSITIONS = "pos_embed"
_CLASSES = frozenset({"DiTTransformer2DModel", "Transformer2DModel"})
# What the published network is, in diffusers' words; a key that is absent has the value that it had before there was the key.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu-approximate",),
    "attention_bias": (True,),
    "norm_type": ("ada_norm_zero",),
    "norm_elementwise_affine": (False,),
    "norm_eps": (1e-5, 1e-6),
}
_SCHEDULE: Mapping[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear",),
    "beta_start": (0.0001,),
    "beta_end": (0.02,),
    "num_train_timesteps": (1000,),
    "prediction_type": ("epsilon",),
}
_BLOCK = re.compile(r"transformer_blocks\.(\d{1,3})\.(.+)\.(weight|bias)")
_PARTS = {
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
_EMBEDDERS = {
    "norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "norm1.emb.class_embedder.embedding_table": "y_embedder.embedding_table",
}
_ENDS = {
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}


@dataclass(frozen=True, kw_only=True)
class PublicCheckpoint:
    """A published checkpoint, converted.

    Attributes:
        architecture: Its network.
        weights: By parameter name of ours.
        side: Height and width of its latents.
        labels: Names of its labels, where it has them.
    """

    architecture: TransformerConfig
    weights: Mapping[str, Tensor]
    side: int
    labels: tuple[str, ...] | None = None


def read_facebook_dit(path: Path, scratch: Path, *, num_heads: int | None = None) -> PublicCheckpoint:
    """Reads a `.pt` file of facebookresearch/DiT, in a process of its own; of a training checkpoint the averaged weights.

    Args:
        path: The file.
        scratch: A folder for the converted tensors.
        num_heads: Attention heads, where its sizes are none of the paper's.

    Raises:
        BadModelError: The file is damaged, holds more than tensors, or is of another network; or its heads are unknown.
    """
    converted = scratch / "converted.safetensors"
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "model_core.transformer.convert_checkpoint", str(path.resolve()), str(converted.resolve())]
    hint = "give the file as it was published, such as DiT-XL-2-256x256.pt"
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            why = said if done.returncode == EXIT_REFUSED else "its reader ended, as of a damaged or hostile file"
            raise BadModelError(f"the checkpoint cannot be read: {why}", hint=hint)
        state = _read_tensors(converted)
    except subprocess.TimeoutExpired as error:
        raise BadModelError("the checkpoint cannot be read: its reader took an hour", hint=hint) from error
    finally:
        converted.unlink(missing_ok=True)
    if _POSITIONS not in state or state[_POSITIONS].ndim != 3:
        raise BadModelError("the checkpoint has no pos_embed, which says how large its latents are", hint=hint)
    return _published(state, num_heads, side=None)


def read_diffusers_dit(folder: Path) -> PublicCheckpoint:
    """Reads a folder of diffusers' DiTPipeline: `transformer/`, and where they are there the scheduler and names of labels.

    Raises:
        BadModelError: A file is missing, damaged or pickled, or it is another network than the published one.
    """
    path = folder / TRANSFORMER / CONFIG_NAME
    values = _read_object(path)
    if values.get("_class_name") not in _CLASSES:
        named = str(values.get("_class_name"))[:60]
        raise BadModelError(f"transformer/config.json is of a {named!r}", hint="a DiTTransformer2DModel is imported")
    _require(values, _FIXED, "transformer/config.json")
    if (folder / SCHEDULER_NAME).is_file():
        _require(_read_object(folder / SCHEDULER_NAME), _SCHEDULE, SCHEDULER_NAME)
    heads, side = values.get("num_attention_heads", 16), values.get("sample_size")
    if type(heads) is not int or type(side) is not int or not 1 <= side <= 4096:
        raise BadModelError("transformer/config.json says neither heads nor sample_size", hint="get the checkpoint again")
    weights_path = folder / TRANSFORMER / WEIGHTS_NAME
    if not weights_path.is_file():
        raise BadModelError(f"the checkpoint has no transformer/{WEIGHTS_NAME}", hint="weights are one safetensors file")
    found = _published(_from_diffusers(_read_tensors(weights_path)), heads, side=side)
    labels = _labels(folder, found.architecture.num_labels)
    return PublicCheckpoint(architecture=found.architecture, weights=found.weights, side=side, labels=labels)


def _published(state: Mapping[str, Tensor], num_heads: int | None, *, side: int | None) -> PublicCheckpoint:
    if num_heads is None:
        patches = state.get("x_embedder.proj.bias", torch.zeros(0))
        depth = 1 + max((int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d{1,3}\.", name)), default=-1)
        num_heads = heads_of(depth=depth, hidden_size=len(patches))
        if num_heads is None:
            raise BadModelError(
                f"a network of depth {depth} and width {len(patches)} is none of the paper's: its attention heads are unknown",
                hint="say how many it has: --num-heads N",
            )
    architecture = reference_architecture(state, num_heads=num_heads)
    weights = from_reference(state, architecture)
    patch = architecture.patch_size[1]
    if side is None:
        side = round(state[_POSITIONS].shape[1] ** 0.5) * patch
    if side % patch:
        raise BadModelError(f"latents of {side} do not divide into patches of {patch}", hint="get the checkpoint again")
    return PublicCheckpoint(architecture=architecture, weights=weights, side=side)


def _from_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns diffusers' tensors under the published names.

    Raises:
        BadModelError: A tensor is unknown, one of queries, keys and values is missing, or the copies of an embedder differ.
    """
    found: dict[str, Tensor] = {}
    apart: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        block = _BLOCK.fullmatch(name)
        if stem in _ENDS:
            found[f"{_ENDS[stem]}.{kind}"] = tensor
        elif block is None:
            raise BadModelError(f"the checkpoint holds a tensor of another network: {name[:100]!r}", hint="give a DiT's")
        elif block[2] in _PARTS:
            found[f"blocks.{int(block[1])}.{_PARTS[block[2]]}.{kind}"] = tensor
        elif block[2] in _EMBEDDERS:
            shared = f"{_EMBEDDERS[block[2]]}.{kind}"
            if not torch.equal(found.setdefault(shared, tensor), tensor):
                raise BadModelError(
                    f"the copies of an embedder differ from block to block: {block[2]}",
                    hint="it was trained further in diffusers, whose network has an embedder a block; the published one has one",
                )
        elif block[2] in {"attn1.to_q", "attn1.to_k", "attn1.to_v"}:
            apart.setdefault(f"blocks.{int(block[1])}.attn.qkv.{kind}", {})[block[2][-1]] = tensor
        else:
            raise BadModelError(f"the checkpoint holds a tensor of another network: {name[:100]!r}", hint="give a DiT's")
    for name, parts in apart.items():
        if parts.keys() != set("qkv") or len({part.shape for part in parts.values()}) > 1:
            raise BadModelError(f"the checkpoint lacks queries, keys or values of {name}", hint="get the checkpoint again")
        found[name] = torch.cat([parts[one] for one in "qkv"])
    return found


def _labels(folder: Path, count: int) -> tuple[str, ...] | None:
    """Returns the names of labels that a pipeline's index has, told apart where two are the same."""
    path = folder / INDEX_NAME
    named = _read_object(path).get("id2label") if path.is_file() else None
    if not isinstance(named, dict):
        return None
    names = [named.get(str(place)) for place in range(count)]
    if len(named) != count or not all(isinstance(name, str) and 0 < len(name) <= 500 for name in names):
        raise BadModelError(
            f"{INDEX_NAME} does not name the {count} labels that the network has", hint="get the checkpoint again"
        )
    texts = [str(name) for name in names]
    return tuple(name if texts.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(texts))


def _require(values: Mapping[str, Any], expected: Mapping[str, tuple[Any, ...]], where: str) -> None:
    for name, allowed in expected.items():
        if name in values and values[name] not in allowed:
            raise BadModelError(
                f"{where}: {name} is {str(values[name])[:60]!r}, the published network has {allowed[0]!r}",
                hint="only checkpoints of the published DiT are imported",
            )


def _read_object(path: Path) -> dict[str, Any]:
    name = "/".join(path.parts[-2:])
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelError(f"{name} cannot be read: {type(error).__name__}", hint="get the checkpoint again") from error
    if not isinstance(values, dict):
        raise BadModelError(f"{name} holds no object", hint="get the checkpoint again")
    return values


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        told = f"{path.name} is no complete safetensors file: {' '.join(str(error).split())[:120]}"
        raise BadModelError(told, hint="get the checkpoint again") from error
    return tensors
