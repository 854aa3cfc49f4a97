"""One thread for tiny tensors; shapes and types of what these tests import are checked at every call."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

# As mypy reads types: an int passes for a float.
jaxtyping.install_import_hook("model_core.diffusion", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of types, as in production: what is tested is how our own code refuses bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
