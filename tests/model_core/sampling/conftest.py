"""One thread for tiny tensors; shapes and types are checked at every call."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

_MODULES = [
    "context",
    "ddim",
    "ddpm",
    "euler",
    "feature_cache",
    "generate",
    "long_clips",
    "multistep",
    "points",
    "sample",
    "seeds",
]
# As mypy reads types: an int passes for a float.
_MODULES += ["steps", "tables"]
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook([f"model_core.sampling.{name}" for name in _MODULES], _CHECKER)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
