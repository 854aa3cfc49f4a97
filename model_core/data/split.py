"""Which items are held out: decided by each item's own identity, so that a split never changes when a dataset grows."""

import hashlib
from typing import Literal

Split = Literal["train", "holdout"]
TRAIN: Split = "train"
HOLDOUT: Split = "holdout"
SPLITS: tuple[Split, ...] = (TRAIN, HOLDOUT)


def split_of(key: str, *, holdout_per_mille: int = 100) -> Split:
    """Returns the split of an item.

    Args:
        key: What identifies the item in its source, such as a code point sequence or a file name.
        holdout_per_mille: How many items in a thousand are held out, about.
    """
    bucket = int.from_bytes(hashlib.sha256(f"split{key}".encode()).digest()) % 1000
    return HOLDOUT if bucket < holdout_per_mille else TRAIN


def subset_rank(key: str) -> str:
    """Returns what items are ordered by when only some of them are wanted: a hash, so that the subset is spread evenly."""
    return hashlib.sha256(f"subset{key}".encode()).hexdigest()
