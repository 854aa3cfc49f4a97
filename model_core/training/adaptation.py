"""Training that starts from a trained transformer and learns low-rank adapters on it alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_core.training.data_order import random_generator
from model_core.transformer.adapter_config import AdapterConfig
from model_core.transformer.adapters import add_adapters
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import read_model_config
from model_core.transformer.weights import load_weights


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """What is adapted, and how; it is sent to other processes.

    Attributes:
        base: The folder of the base: `config.json` and `transformer.safetensors`.
        base_digest: What names the base's content: a checkpoint goes on with the same base only.
        adapter: The adapters.
        labels: All labels of the adapted model: the base's, then new ones.
    """

    base: Path
    base_digest: str
    adapter: AdapterConfig
    labels: tuple[str, ...]

    def network(self, seed: int) -> DiT:
        """Returns the base with adapters that change nothing yet; only they, and the rows of new labels, are to be trained.

        Raises:
            BadModelError: The base cannot be read, or the adapters do not fit it.
        """
        config = read_model_config(self.base)
        model = load_weights(config.transformer(), self.base).train()
        num_added = len(self.labels) - len(config.conditioning.labels)
        add_adapters(model, self.adapter, num_added=num_added, generator=random_generator(seed, "adapters"))
        return model

    def work(self) -> Mapping[str, Any]:
        """Returns what makes this work another than training from the beginning, as plain values."""
        return {"base": self.base_digest, "adapter": self.adapter.to_dict(), "labels": list(self.labels)}
