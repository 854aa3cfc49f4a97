"""Which items are held out: decided by each item's own identity, so that a split never changes when a dataset grows."""

import hashlib
from collections.abc import Sequence
from typing import Literal

Split = Literal["train", "holdout"]
TRAIN: Split = "train"
HOLDOUT: Split = "holdout"
SPLITS: tuple[Split, ...] = (TRAIN, HOLDOUT)
FEWEST_HELD_OUT = 4
"""An evaluation needs so many."""


def split_of(key: str, *, holdout_per_mille: int = 100) -> Split:
    """Returns the split of an item.

    Args:
        key: What identifies the item in its source, such as a code point sequence or a file name.
        holdout_per_mille: How many items in a thousand are held out, about.
    """
    return HOLDOUT if _bucket(key) < holdout_per_mille else TRAIN


def held_out_of_few(keys: Sequence[str]) -> frozenset[str]:
    """Returns which of a few items are held out, where `split_of` alone would leave fewer than four, or a quarter of them.

    Of fewer than about forty, the next in line join those that are held out anyway; as a dataset grows, they leave again.
    """
    ordered = sorted(keys, key=lambda key: (_bucket(key), key))
    wanted = min(FEWEST_HELD_OUT, len(keys) // 4)
    return frozenset(key for place, key in enumerate(ordered) if place < wanted or split_of(key) == HOLDOUT)


def _bucket(key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"split{key}".encode()).digest()) % 1000


def subset_rank(key: str) -> str:
    """Returns what items are ordered by when only some of them are wanted: a hash, so that the subset is spread evenly."""
    return hashlib.sha256(f"subset{key}".encode()).hexdigest()
