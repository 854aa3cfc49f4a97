"""The tables that a suite is about, and what a report counts, from columns: no object an item."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.validate_data.engine import ROW
from model_core.data.dataset import Dataset
from model_core.data.split import HOLDOUT, TRAIN


def tables_of(dataset: Dataset, facts: pa.Table) -> dict[str, pd.DataFrame]:
    """Returns the tables by name, each with a column `row`.

    Args:
        dataset: The dataset.
        facts: What `model_core.data.media_facts.examine` found.
    """
    manifest = _frame(dataset.table)
    manifest.insert(0, ROW, np.arange(len(dataset)))
    return {"manifest": manifest, "media": _frame(facts), "labels": _labels(dataset)}


def _frame(table: pa.Table) -> pd.DataFrame:
    """Returns a table whose columns' types do not depend on what stands in them.

    Whole numbers get 64 bits: Great Expectations compares others one by one. Truth values stay objects, which know None.
    """
    wide = [
        pa.field(field.name, pa.int64()) if pa.types.is_integer(field.type) else pa.field(field.name, field.type)
        for field in table.schema
    ]
    frame: pd.DataFrame = table.cast(pa.schema(wide)).to_pandas(split_blocks=True)
    truths = [field.name for field in table.schema if pa.types.is_boolean(field.type)]
    return frame.astype(dict.fromkeys(truths, object))


def _labels(dataset: Dataset) -> pd.DataFrame:
    labels = dataset.labels or [""]
    column, splits = dataset.table["label"], dataset.table["split"]
    counts = {split: _counts(column.filter(pc.equal(splits, split))) for split in (TRAIN, HOLDOUT)}
    train, holdout = ([counts[split].get(label, 0) for label in labels] for split in (TRAIN, HOLDOUT))
    totals = [sum(both) for both in zip(train, holdout, strict=True)]
    largest = max(totals) or 1
    return pd.DataFrame(
        {
            ROW: range(len(labels)),
            "label": labels,
            "num_items": totals,
            "num_train": train,
            "num_holdout": holdout,
            "share_of_largest": [total / largest for total in totals],
        }
    )


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Returns how often each value occurs, sorted by value."""
    counted = values.value_counts()
    return dict(sorted(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)))


def statistics_of(dataset: Dataset, facts: pa.Table, *, compared: bool) -> dict[str, Any]:
    """Returns what a report counts.

    Args:
        dataset: The dataset.
        facts: What was found in its media.
        compared: Whether similar pictures were looked for.
    """
    table, captions = dataset.table, dataset.table["caption"]
    lengths = pc.utf8_length(captions)

    def known(name: str) -> int:
        return int(len(facts) - facts[name].null_count)

    return {
        "items_by_split": _counts(table["split"]),
        "items_by_label": _counts(table["label"]),
        "items_by_licence": _counts(table["licence"]),
        "size_bytes": pc.sum(table["size_bytes"]).as_py(),
        "caption_characters": {
            "shortest": pc.min(lengths).as_py(),
            "longest": pc.max(lengths).as_py(),
            "mean": round(pc.sum(lengths).as_py() / len(lengths), 3),
        },
        "captions_empty": _num_empty(captions),
        "captions_distinct": pc.count_distinct(captions).as_py(),
        "undecodable": known("problem"),
        "equal_pixels": known("duplicate_of"),
        "equal_pixels_across_splits": known("leaks"),
        "similar_pictures_searched": compared,
        "with_similar_picture": known("nearest"),
        "with_similar_picture_across_splits": known("leak_nearest"),
    }


def _num_empty(captions: pa.ChunkedArray) -> int:
    """Returns how many captions hold white space only, as Python counts it, of which Arrow knows less."""
    short = captions.filter(pc.match_substring_regex(captions, r"^[\pZ\pC]*$"))
    return sum(not caption.strip() for chunk in short.chunks for caption in chunk.to_pylist())
