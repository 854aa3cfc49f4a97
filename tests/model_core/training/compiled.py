"""Compiles a network's blocks, for a test: ``python -m tests.model_core.training.compiled FOLDER CHANGES``.

In a process of its own, since what checks shapes in other tests cannot be compiled. CHANGES are a JSON object of fields of the
architecture. Prints a JSON object: losses and the largest difference of gradients, with and without compiling, and the kinds of
numbers that the compiler was given.
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch
from torch._dynamo.backends.registry import lookup_backend

from model_core.data.latents import LatentDataset
from model_core.training.batch import draw_batch, objective_of
from model_core.training.config import TrainingConfig
from model_core.training.state import TrainingState
from model_core.transformer.config import TransformerConfig
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING


def gradients(config: TrainingConfig, architecture: TransformerConfig, latents: LatentDataset):
    state = TrainingState(config, architecture)
    with torch.no_grad():  # away from the start, where gates are zero and most gradients too
        for parameter in state.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    batch = draw_batch(0, config, architecture, latents, latents.rows("train"))
    loss = state.backward(batch, objective_of(config))
    return float(loss), dict(state.gradients())


def main(folder: Path, changes: dict) -> None:
    torch.set_num_threads(1)
    dtypes = set()

    def traced(graph, inputs):
        values = [node.meta.get("example_value") for node in graph.graph.nodes]
        dtypes.update(str(value.dtype) for value in values if isinstance(value, torch.Tensor))
        return lookup_backend("aot_eager")(graph, inputs)

    compile_module = torch.nn.Module.compile  # traced as ever, but without a C++ compiler's minute
    torch.nn.Module.compile = lambda module: compile_module(module, backend=traced, fullgraph=True)
    latents = LatentDataset.open(folder)
    architecture = dataclasses.replace(ARCHITECTURE, **changes)
    loss, plain = gradients(TRAINING, architecture, latents)
    compiled_loss, compiled = gradients(dataclasses.replace(TRAINING, compile=True), architecture, latents)
    difference = max(float((compiled[name] - gradient).abs().max()) for name, gradient in plain.items())
    scale = max(float(gradient.abs().max()) for gradient in plain.values())
    sys.stdout.write(json.dumps({"losses": [loss, compiled_loss], "difference": difference / scale, "dtypes": sorted(dtypes)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
