"""One thread for tiny tensors, and shapes checked as the code runs."""

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

# All but those that refuse wrong shapes with an error of their own, which their tests look at.
_CHECKED = ["assessment", "grids", "intervals", "moments", "nearest", "probe", "reference_cache"]
install_import_hook([f"model_core.evaluation.{name}" for name in _CHECKED], "beartype.beartype")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of a module, not a test: what a module trains once must be what its tests train again, and threads change last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
