"""Which holdout an evaluation was on, as a digest: two evaluations with the same one may be held against each other."""

import hashlib
import json
from collections.abc import Collection

from model_core.data.dataset import Dataset

_FORMAT = "groundswell-holdout/1"


def holdout_digest(dataset: Dataset, *, pictures: Collection[int], conditions: Collection[int], extractor: str) -> str:
    """Returns the SHA-256 over what was judged and with which eye: pictures and conditions, in order, and the extractor.

    The rest of the dataset does not matter: two datasets that differ in training pictures alone may share a holdout.

    Args:
        dataset: The dataset.
        pictures: Rows of the real pictures that samples were compared with.
        conditions: Rows whose descriptions samples were drawn for.
        extractor: Digest of the feature extractor.
    """
    as_pictures, as_conditions = frozenset(pictures), frozenset(conditions)
    columns = [dataset.columns[name] for name in ("sha256", "label", "caption")]
    rows = [
        [*(column[row] for column in columns), row in as_pictures, row in as_conditions]
        for row in sorted(as_pictures | as_conditions)
    ]
    return hashlib.sha256(json.dumps([_FORMAT, extractor, rows], separators=(",", ":")).encode()).hexdigest()
