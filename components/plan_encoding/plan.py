"""Which shards of latents each part of a dataset becomes, as one step tells the next."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from governance.errors import IntegrityError

PLAN_NAME: Final = "plan.json"
_FORMAT: Final = "groundswell-encoding-plan/1"
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class EncodingPlan:
    """How a dataset is divided.

    Attributes:
        dataset_digest: Digest of the dataset.
        shard_size: Items in a shard of latents, but for the last.
        parts: The shards of each part, by number; one follows on the other.
    """

    dataset_digest: str
    shard_size: int
    parts: tuple[range, ...]


def divide(num_shards: int, num_parts: int) -> tuple[range, ...]:
    """Returns shards in parts of about the same size; fewer parts where there are fewer shards."""
    num_parts = min(num_parts, num_shards)
    bounds = [number * num_shards // num_parts for number in range(num_parts + 1)]
    return tuple(range(start, stop) for start, stop in pairwise(bounds))


def write_plan(folder: Path, plan: EncodingPlan) -> None:
    """Writes a plan; `read_plan` reads it."""
    values = {
        "format": _FORMAT,
        "dataset_digest": plan.dataset_digest,
        "shard_size": plan.shard_size,
        "parts": [[part.start, part.stop] for part in plan.parts],
    }
    (folder / PLAN_NAME).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_plan(folder: Path) -> EncodingPlan:
    """Reads what `plan_encoding` has made.

    Raises:
        IntegrityError: It is none.
    """
    path = folder / PLAN_NAME
    try:
        with path.open("rb") as file:
            values: Mapping[str, Any] = json.loads(file.read(_MAX_BYTES))
        is_plan = values["format"] == _FORMAT
        plan = EncodingPlan(
            dataset_digest=str(values["dataset_digest"]),
            shard_size=int(values["shard_size"]),
            parts=tuple(range(int(start), int(stop)) for start, stop in values["parts"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        is_plan = False
    if not is_plan:
        raise IntegrityError(f"{path} is no plan of an encoding", hint="run the same command again")
    return plan


def part_numbers(folder: str) -> list[str]:
    """Returns the numbers of the parts of a plan, as Kubeflow passes them on."""
    return [str(number) for number in range(len(read_plan(Path(folder)).parts))]
