"""Which commit the running code comes from: git says it in a checkout, the bill of materials in an image.

For the record alone: what a result depends on is told by `infra.source_digest`; no fingerprint and no package holds a commit.
"""

import json
import re
import subprocess
from functools import lru_cache
from pathlib import Path

from infra.images.sbom import TARGET
from infra.settings import child_environment
from infra.source_digest import ROOMS

_ROOT = Path(__file__).parents[1]
_REVISION = re.compile(r"[0-9a-f]{40}(-dirty)?", re.ASCII)
_TIMEOUT_S = 5.0


@lru_cache(maxsize=4)
def source_revision(root: Path = _ROOT, bill: Path = TARGET) -> str:
    """Returns the commit, with ``-dirty`` where modules differ from it, as images name theirs; "" where it is not known.

    It is asked once a process, which takes a few milliseconds.

    Args:
        root: The folder that the rooms lie in. Only its own ``.git`` counts: a library installed inside somebody's checkout
            does not come from there.
        bill: The bill of materials of an image.
    """
    found = _of_checkout(root) if (root / ".git").exists() else _of_image(bill)
    return found if _REVISION.fullmatch(found) else ""


def _of_checkout(root: Path) -> str:
    command = ["git", "-C", str(root), "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--", *ROOMS, "groundswell"]
    environment = {name: value for name, value in child_environment().items() if not name.startswith("GIT_")}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    lines = ended.stdout.splitlines()
    commit = next((line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")), "")
    return commit + ("-dirty" if any(not line.startswith("#") for line in lines) else "")


def _of_image(bill: Path) -> str:
    try:
        properties = json.loads(bill.read_bytes())["metadata"]["component"]["properties"]
        return next(str(one["value"]) for one in properties if one["name"] == "io.groundswell.revision")
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""
