"""The check that a step works on the data that was validated."""

import json
from pathlib import Path

from governance.digest import tree_digest
from governance.errors import BadRecordError, IntegrityError, RefusedError


def require_validated(dataset: Path, validation: Path) -> str:
    """Returns the digest of a dataset that passed validation as it is now.

    Args:
        dataset: The dataset's folder.
        validation: What validate_data wrote about it.

    Raises:
        BadRecordError: The validation report cannot be read.
        RefusedError: The data did not pass.
        IntegrityError: The dataset is not the one that was validated, or has changed since.
    """
    path = validation / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        validated, success = str(report["dataset_digest"]), report["success"] is True
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRecordError(f"{path} is no validation report: {error}", hint="validate the dataset again") from error
    if not success:
        raise RefusedError(f"the dataset did not pass validation, says {path}", hint="see failed_rows.csv beside the report")
    digest = tree_digest(dataset)
    if digest != validated:
        raise IntegrityError(
            f"{dataset} has digest {digest[:12]}…, but {validated[:12]}… was validated: it changed since, or is another dataset",
            hint="validate the dataset again",
        )
    return digest
