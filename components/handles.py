"""What Kubeflow passes from step to step: a small file that says where in the home an output is, and never the output itself.

Outputs stay in the home, by fingerprint. A launcher of Kubeflow brings what lies at an output's own place to its object store,
and from there to the next step; an output that lies elsewhere some versions leave alone and others fail on. So a file lies there
that names the place below the home, which may be mounted elsewhere in the next step.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components.store import ArtifactRef
from governance.errors import IntegrityError

_FORMAT = "groundswell-output/1"
_MAX_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Handle:
    """An output by its place: the folder, and the digest that its producer has declared; None where nobody has."""

    folder: Path
    digest: str | None


def write_handle(path: Path, home: Path, reference: ArtifactRef) -> None:
    """Writes where an output is."""
    place = reference.path.relative_to(home).as_posix()
    values = {"format": _FORMAT, "place": place, "kind": reference.kind, "digest": reference.digest}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def read_handle(path: Path, home: Path) -> Handle:
    """Returns where an input is: what a handle says, or the folder itself where a pipeline is given one.

    Raises:
        IntegrityError: The file is no handle, or names a place that is not in the home.
    """
    if not path.is_file():
        return Handle(folder=path, digest=None)
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MAX_BYTES))
        place, digest = PurePosixPath(values["place"]), str(values["digest"])
        is_handle = values["format"] == _FORMAT and not place.is_absolute() and ".." not in place.parts
    except (OSError, ValueError, KeyError, TypeError):
        is_handle = False
    if not is_handle:
        raise IntegrityError(f"{path} is nothing that a step has passed on", hint="run the pipeline again")
    return Handle(folder=home / place, digest=digest)
