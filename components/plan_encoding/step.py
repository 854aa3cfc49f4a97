"""Divides a validated dataset into parts of whole shards of latents, to be encoded side by side."""

from collections.abc import Mapping
from pathlib import Path

from components.plan_encoding.config import Config
from components.plan_encoding.plan import EncodingPlan, divide, write_plan
from components.ports import Ports, StepReport
from components.validated import require_validated
from model_core.data.dataset import Dataset


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Divides a dataset.

    Args:
        config: Into how many parts, and what a shard is.
        inputs: `dataset`, `validation`.
        outputs: `plan`: plan.json.
        ports: Where progress goes.

    Raises:
        IntegrityError: The dataset is not the one that `inputs["validation"]` is about.
        BadDataError: The dataset cannot be opened.
    """
    ports.progress.update(0, 1, "dividing the dataset")
    digest = require_validated(inputs["dataset"], inputs["validation"])
    num_items = len(Dataset.open(inputs["dataset"]))
    num_shards = -(-num_items // config.shard_size)
    parts = divide(num_shards, config.parts)
    write_plan(outputs["plan"], EncodingPlan(dataset_digest=digest, shard_size=config.shard_size, parts=parts))
    told = ", ".join(
        f"{count:,} {noun if count == 1 else f'{noun}s'}"
        for count, noun in ((num_items, "item"), (num_shards, "shard"), (len(parts), "part"))
    )
    return StepReport(summary=told)
