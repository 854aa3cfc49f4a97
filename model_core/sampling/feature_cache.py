"""Feature caching: attention and MLPs change little between near steps, so some calls of the network may reuse them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from model_core.errors import BadDataError

_SUBLAYERS = ("attn", "temporal_attn", "cross_attn", "mlp")


@contextmanager
def cached_features(model: nn.Module, interval: int) -> Iterator[None]:
    """Computes the sublayers of a model's blocks in every ``interval``-th call only, and reuses their outputs in between.

    Reused are the outputs of attention and MLP before gates are applied; embeddings, modulations, gates and the last layer are
    computed in every call (FORA: Selvaraju 2024, arXiv 2407.01425). With an interval of 1 nothing changes. A call with another
    batch size than what was kept (guidance that begins or ends) computes anew. What is kept goes with the context.

    Args:
        model: A transformer; what its `blocks` have of attention and MLPs is cached.
        interval: Calls from one computation to the next.

    Raises:
        BadDataError: An interval below 1.
    """
    if interval < 1:
        raise BadDataError(f"the feature cache's interval is {interval}", hint="choose 1 (no reuse) or more; 2 to 3 is usual")
    sublayers = [
        getattr(block, name)
        for block in model.get_submodule("blocks").children()
        for name in _SUBLAYERS
        if isinstance(getattr(block, name, None), nn.Module)
    ]
    for sublayer in sublayers:
        sublayer.forward = _reusing(sublayer.forward, interval)
    try:
        yield
    finally:
        for sublayer in sublayers:
            del sublayer.forward  # the class's own again


def _reusing(forward: Callable[..., Tensor], interval: int) -> Callable[..., Tensor]:
    """Returns a forward that answers from its last computation, but for every ``interval``-th call."""
    calls = 0
    kept: Tensor | None = None

    def reuse(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal calls, kept
        if kept is None or calls % interval == 0 or len(kept) != len(x):
            kept = forward(x, *args, **kwargs)
        calls += 1
        return kept

    return reuse
