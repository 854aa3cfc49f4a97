"""Renders what is deployed on Kubernetes, and validates every resource: ``python -m tests.infra.kubernetes.check [FOLDER ...]``.

Without a folder it takes each overlay of infra/kubernetes, otherwise folders with a ``kustomization.yaml`` of your own: such as
an overlay with your images and addresses. `schemas` says against what they are held. The exit code is 1 if anything is wrong.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.infra.kubernetes.rendering import FOLDER, OVERLAYS, RenderError, render_folder, title
from tests.infra.kubernetes.schemas import RELEASES, faults


def check_folder(folder: Path) -> tuple[int, list[str]]:
    """Renders a folder and validates what comes of it.

    Args:
        folder: A folder with a ``kustomization.yaml``.

    Returns:
        How many resources there are, and what is wrong, a line each.
    """
    try:
        resources = render_folder(folder)
    except RenderError as error:
        return 0, [str(error)]
    found = [(one, release, fault) for one in resources for release in RELEASES for fault in faults(one, release)]
    return len(resources), list(dict.fromkeys(f"{title(one)}: {fault}" for one, _, fault in found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.infra.kubernetes.check", description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a folder with a kustomization.yaml")
    folders = parser.parse_args(arguments).folders or [FOLDER / "overlays" / name for name in OVERLAYS]
    releases = " and ".join(release.rpartition(".")[0] for release in RELEASES)
    num_faults = 0
    for folder in folders:
        num_resources, found = check_folder(folder)
        num_faults += len(found)
        for line in found:
            sys.stderr.write(f"error: {folder.name}: {line}\n")
        sys.stdout.write(f"{folder.name}: {num_resources} resources, {len(found)} faults (Kubernetes {releases})\n")
    return 1 if num_faults else 0


if __name__ == "__main__":
    sys.exit(main())
