"""The work folder of one fingerprint: scratch that survives a killed step, and outputs that appear whole or not at all.

``work/<fingerprint>/scratch`` is for checkpoints, ``partial`` is being written, ``outputs`` is finished.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from governance.digest import tree_digest
from governance.errors import IntegrityError

_UNSIGNED = {"package": ("model.sig",)}


@dataclass(frozen=True, kw_only=True)
class ArtifactRef:
    """A folder of a known kind and digest.

    Attributes:
        kind: ``dataset``, ``validation``, ``codec``, ``encoded_part``, ``latents``, ``model``, ``evaluation``, ``package``,
            ``media_set``.
        digest: The folder's digest; a package's leaves out its signature.
        path: Where it is.
    """

    kind: str
    digest: str
    path: Path

    @property
    def subject(self) -> str:
        """The artifact's name in ledger and lineage."""
        return f"{self.kind}:{self.digest}"


def artifact_digest(kind: str, path: Path) -> str:
    """Returns the digest of an artifact's folder.

    Raises:
        IntegrityError: The folder is missing, or holds a link.
    """
    if not path.is_dir():
        raise IntegrityError(f"the {kind} folder {path} is missing", hint="run the pipeline again; what is missing is made anew")
    return tree_digest(path, exclude=_UNSIGNED.get(kind, ()))


def hand_over(source: Path, target: Path) -> None:
    """Gives a finished file a second name; a copy where the disk knows no second names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class WorkFolder:
    """The folder in which the work with one fingerprint is done and kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / "scratch"
        self.lock_path = root / "lock"
        self._outputs = root / "outputs"
        self._partial = root / "partial"

    def output(self, name: str) -> Path:
        """Returns where a finished output is."""
        return self._outputs / name

    def begin(self, names: Iterable[str]) -> dict[str, Path]:
        """Makes empty folders for the outputs to be written, and the scratch folder."""
        shutil.rmtree(self._partial, ignore_errors=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        folders = {name: self._partial / name for name in names}
        for folder in folders.values():
            folder.mkdir(parents=True)
        return folders

    def partial_output(self, name: str) -> Path:
        """Returns where an output is being written."""
        return self._partial / name

    def publish(self) -> None:
        """Gives the written outputs their final name."""
        shutil.rmtree(self._outputs, ignore_errors=True)
        os.replace(self._partial, self._outputs)  # noqa: PTH105 - atomic on purpose

    def discard_scratch(self) -> None:
        """Drops the scratch folder, once the outputs are recorded."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def mismatches(self, recorded: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Returns what is wrong with the finished outputs, one line each; none if all are as recorded.

        Args:
            recorded: ``{"kind", "digest"}`` by output name, from the database.
        """
        problems = []
        for name, reference in recorded.items():
            try:
                found = artifact_digest(reference["kind"], self.output(name))
            except IntegrityError as error:
                problems.append(error.diagnosis)
                continue
            if found != reference["digest"]:
                problems.append(f"{name}: recorded digest {reference['digest'][:12]}, found {found[:12]}")
        return problems

    @property
    def is_finished(self) -> bool:
        """Whether there are outputs under their final name."""
        return self._outputs.is_dir()

    def quarantine(self, folder: Path) -> Path:
        """Moves the finished outputs out of the way, for a person to look at.

        Returns:
            Where they are now.
        """
        folder.mkdir(parents=True, exist_ok=True)
        position = sum(1 for _ in folder.iterdir())
        target = folder / f"{self.root.name[:16]}-{position}"
        os.replace(self._outputs, target)  # noqa: PTH105 - a rename, not a copy
        return target
