"""One thread for tiny tensors, and shapes checked as the code runs."""

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

# All but the configuration, which refuses values of wrong types itself.
_MODULES = [
    "attention",
    "blocks",
    "dit",
    "embedders",
    "layout",
    "mlp",
    "modulations",
    "norms",
    "packing",
    "patchify",
    "positions",
]
_CHECKED = [*_MODULES, "reference_weights", "rope"]
install_import_hook([f"model_core.transformer.{name}" for name in _CHECKED], "beartype.beartype")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
