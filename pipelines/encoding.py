"""How a pipeline has its dataset encoded: by one task, or part by part and joined, as it is shaped."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl

from components.encode_latents import in_parts
from components.encode_latents.component import encode_latents
from pipelines.shaping import encodes_in_parts, parallelism, shaped

PARALLELISM = 4
"""Parts that are encoded at a time on a cluster; kfp.local encodes two at a time."""


def encoded(shared: Mapping[str, Any], given: Mapping[str, Any], validation: Any) -> Any:
    """Returns the latents of a dataset, as the pipeline passes them on.

    Args:
        shared: What every step is given: `home`, `run_id` and `params`.
        given: `dataset` and `codec`.
        validation: The report that the dataset has passed.
    """
    if not encodes_in_parts():
        return shaped(encode_latents(**shared, **given, validation=validation), "encode_latents").outputs["latents"]
    planned = shaped(in_parts.plan_encoding(**shared, dataset=given["dataset"], validation=validation), "plan_encoding")
    plan = planned.outputs["plan"]
    with dsl.ParallelFor(planned.outputs["Output"], parallelism=parallelism(PARALLELISM)) as number:
        part = shaped(in_parts.encode_part(**shared, **given, part=number, validation=validation, plan=plan), "encode_part")
    parts = dsl.Collected(part.outputs["encoded"])
    joined = in_parts.encode_latents(**shared, **given, validation=validation, encoded=parts)
    return shaped(joined, "encode_latents").outputs["latents"]
