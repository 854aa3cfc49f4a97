"""Encodes one part of a dataset: some shards of latents, and how faithful they are."""

from collections.abc import Mapping
from pathlib import Path

from components.encode_part.config import Config
from components.encode_part.encoding import encode_shards
from components.encode_part.part import PartIdentity, write_part
from components.plan_encoding.plan import read_plan
from components.ports import Ports, StepReport
from components.validated import require_validated
from governance.digest import tree_digest
from governance.errors import IntegrityError
from model_core.codec.io import load_codec
from model_core.data.dataset import Dataset
from model_core.device import select_device


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Encodes the shards that the plan has for a part.

    Args:
        config: Which part, and how to go about it.
        inputs: `dataset`, `validation`, `codec`, `plan`.
        outputs: `encoded`: see `components.encode_part.part`.
        ports: The world around the step.

    Raises:
        IntegrityError: The dataset is not the one that `inputs["validation"]` or the plan is about, or the plan has no such part.
        BadDataError: The dataset cannot be opened or a picture cannot be read.
        BadModelError: As of `components.encode_latents.step.run`.
    """
    digest, plan = require_validated(inputs["dataset"], inputs["validation"]), read_plan(inputs["plan"])
    if plan.dataset_digest != digest or config.part >= len(plan.parts):
        raise IntegrityError(
            f"the plan of the encoding has {len(plan.parts)} parts of dataset {plan.dataset_digest[:12]}; part {config.part} of "
            f"dataset {digest[:12]} is none of them",
            hint="run the same command again",
        )
    dataset, codec = Dataset.open(inputs["dataset"]), load_codec(inputs["codec"]).to(select_device(config.device))
    shards, folder = plan.parts[config.part], outputs["encoded"]
    fidelity = encode_shards(codec, dataset, shards, folder, ports, shard_size=plan.shard_size, batch_size=config.batch_size)
    identity = PartIdentity(
        dataset_digest=digest,
        codec_digest=tree_digest(inputs["codec"]),
        latent_shape=codec.config.latent_shape(dataset.info.num_frames, dataset.info.image_size, dataset.info.image_size),
        shard_size=plan.shard_size,
    )
    write_part(folder, identity, shards, fidelity)
    noun = "shard" if len(shards) == 1 else "shards"
    summary = f"{len(fidelity):,} items in {len(shards):,} {noun}, from number {shards.start:,} on"
    return StepReport(summary=summary, facts={"licences": list(dataset.info.licences), "attribution": dataset.info.attribution})
