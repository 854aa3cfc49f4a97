"""The memorisation check of what is handed out: where its index is, and what of it goes on record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.generate_media.near_copies import FILE_NAME, NO_EVALUATION, NO_INDEX
from governance.canonical import decimals
from infra.artifact_folders import find_artifact
from infra.guardrails import Admission
from infra.home import Home
from infra.model_package import ModelPackage
from model_core.evaluation.index_file import INDEX_NAME
from pipelines.publishing import Publication

if TYPE_CHECKING:
    from components.runtime import RunContext
    from infra.database import UnitOfWork


@dataclass(frozen=True, kw_only=True)
class MemorisationCheck:
    """What the check of a request's samples found.

    Attributes:
        mode: What the policy does with near-copies: `withhold`, `flag` or `off`.
        state: `checked`, `unchecked` or `off`.
        reason: Why nothing was checked.
        near_copies: The near-copies: number in the request, seed, the nearest training item's SHA-256, distances, thresholds.
    """

    mode: str
    state: str
    reason: str
    near_copies: tuple[Mapping[str, Any], ...]

    @property
    def withheld(self) -> tuple[Mapping[str, Any], ...]:
        """Those that were not handed out."""
        return self.near_copies if self.mode == "withhold" else ()

    def document(self) -> dict[str, Any]:
        """Returns it for a JSON document."""
        return {"mode": self.mode, "state": self.state, "reason": self.reason, "near_copies": list(self.near_copies)}


def evaluation_of(home: Home, package: ModelPackage, admission: Admission) -> dict[str, Path]:
    """Returns the evaluation that a signed package names, verified, as an input of the step; nothing where there is none.

    Raises:
        IntegrityError: The evaluation in this home is not what the package names.
        GuardrailError: There is none, and the policy refuses what cannot be checked.
    """
    if admission.policy.memorisation.samples == "off":
        return {}
    digest = str((package.config.get("training_data") or {}).get("evaluation_digest", ""))
    folder = find_artifact(home, "evaluation", digest)
    if folder is None:
        admission.require_check(unchecked=NO_EVALUATION)
        return {}
    if not (folder / INDEX_NAME).is_file():
        admission.require_check(unchecked=NO_INDEX)
    return {"evaluation": folder}


def require_checked(media: Path, admission: Admission) -> None:
    """Checks that the samples were held against the training items, where the policy asks for that; before they are handed out.

    Raises:
        GuardrailError: They were not.
    """
    admission.require_check(unchecked=str(json.loads((media / FILE_NAME).read_text(encoding="utf-8"))["reason"]))


def record_check(
    uow: "UnitOfWork",
    run: "RunContext",
    media: Path,
    made: Publication,
    *,
    admission: Admission,
    root_digest: str,
    condition: str,
) -> MemorisationCheck:
    """Puts on record which samples were withheld or flagged, or that none could be checked.

    Args:
        uow: An open unit of work.
        run: The run.
        media: The step's output.
        made: What was handed out.
        admission: The request, and the policy that it was held to.
        root_digest: Root digest of the model's package.
        condition: The commitment to what was asked for.
    """
    document = json.loads((media / FILE_NAME).read_text(encoding="utf-8"))
    near = tuple(document["near_copies"])
    check = MemorisationCheck(mode=document["mode"], state=document["state"], reason=document["reason"], near_copies=near)
    shared = {
        "model": admission.model,
        "root_digest": root_digest,
        "policy_digest": admission.policy.digest,
        "condition_commitment": condition,
    }
    subject = f"run:{run.run_id}"
    if check.state == "unchecked":
        details = {**shared, "reason": check.reason}
        uow.append("generation.unchecked", subject, details, actor=run.actor, run_id=run.run_id)
    by_seed = {file.seed: f"media:{file.sha256}" for file in made.files}
    compared = {"num_compared": document["num_compared"], "num_in_training": document["num_in_training"]}
    for one in near:
        found = {name: value for name, value in one.items() if name != "is_near_copy"}
        details = {**shared, **compared, **decimals({**found, "seed": str(one["seed"])})}
        if check.mode == "withhold":
            uow.append("asset.withheld", subject, details, actor=run.actor, run_id=run.run_id)
        else:
            uow.append("asset.flagged", by_seed[str(one["seed"])], details, actor=run.actor, run_id=run.run_id)
    return check
