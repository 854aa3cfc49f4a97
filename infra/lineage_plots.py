"""Reads what the plots of a lineage report show: losses from the trained model's folder, figures from the evaluation's record."""

import json
from collections.abc import Sequence
from pathlib import Path

from governance.lineage_report.plots import Curve, Estimates, estimates_of, loss_curve
from infra.lineage_nodes import artifact_title
from infra.lineage_pictures import unchanged_folder
from infra.lineage_records import Records
from infra.lineage_subjects import digest_of

_TRAINING = "training.json"
_MAX_BYTES = 64 << 20
_EVALUATE = "/evaluate"


def read_curves(nodes: Sequence[str], records: Records, *, home: Path) -> tuple[Curve, ...]:
    """Returns the loss curve of each trained model among some nodes whose folder is still what was recorded.

    Args:
        nodes: The graph's nodes.
        records: What the database holds.
        home: Relative locations are below it.
    """
    curves = []
    for node in nodes:
        folder = unchanged_folder(node, records, home) if node.startswith("model:") else None
        losses = _losses(folder / _TRAINING) if folder else []
        name = f"{artifact_title(node, records)[0]} {digest_of(node)[:12]}"
        curves.append(loss_curve(losses, title=f"Loss while training ({name})", subject=node))
    return tuple(curve for curve in curves if curve is not None)


def read_estimates(nodes: Sequence[str], records: Records) -> tuple[Estimates, ...]:
    """Returns the figures of each evaluation among some nodes."""
    found = []
    for node in nodes:
        record = records.steps[node]["record"] if node.endswith(_EVALUATE) and node in records.steps else {}
        found.append(estimates_of(record.get("metrics") or {}, title="Evaluation", subject=node))
    return tuple(one for one in found if one is not None)


def _losses(path: Path) -> list[float]:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return []
        losses = json.loads(path.read_text(encoding="utf-8")).get("losses")
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
    if not isinstance(losses, list):
        return []
    return [loss for loss in losses if isinstance(loss, int | float) and not isinstance(loss, bool)]
