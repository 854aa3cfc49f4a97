"""Running out of memory, on a GPU or off it, as one line that says what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model_core.errors import BadModelError

_UNTYPED = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # for these torch has no type


@contextmanager
def memory_named(what: str, *, hint: str) -> Iterator[None]:
    """Turns running out of memory into one line; other errors go on as they are.

    Args:
        what: What was too large, such as ``training: a batch of 32``.
        hint: What to lower.

    Raises:
        BadModelError: Memory was not enough.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(mark in str(error) for mark in _UNTYPED):
            raise
        raise BadModelError(f"{what} does not fit into memory", hint=hint) from error
