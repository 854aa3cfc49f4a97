"""Makes the image of PostgreSQL where no registry is at hand: ``python -m infra.team.images``, as root."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.errors import InfraError
from infra.images import debian
from infra.images.catalogue import ROOT, distribution_version
from infra.images.engine import Engine, Recipe
from infra.locking import lock
from infra.settings import image_name

DATABASE = "database"
_EPOCH = 315_532_800  # 1980-01-01
_ENTRYPOINT = "database-entrypoint"


def make_database_image(engine: Engine) -> str:
    """Makes the image with debootstrap, with Debian's PostgreSQL and its security updates, and returns its name.

    Raises:
        BackendUnavailableError: debootstrap or the engine is not there, or failed.
    """
    name = image_name(DATABASE, version=distribution_version())
    context = ROOT / "build" / "database"
    with lock(context / "lock"):
        debian.make_root(context / "root", context / "rootfs.tar", (*debian.PACKAGES, "postgresql"))
        shutil.copyfile(Path(__file__).with_name(_ENTRYPOINT), context / _ENTRYPOINT)
        containerfile = Path(__file__).with_name("Containerfile.database")
        labels = {"org.opencontainers.image.title": f"PostgreSQL of Debian {debian.SUITE}, for groundswell"}
        engine.build(Recipe(name=name, containerfile=containerfile, context=context, arguments={}, labels=labels, epoch=_EPOCH))
        (context / "rootfs.tar").unlink()
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.team.images", description="Makes the image of PostgreSQL, as root.")
    parser.add_argument("--engine", default="", help="docker or podman; the first that answers by default")
    asked = parser.parse_args(arguments).engine
    try:
        sys.stdout.write(f"{make_database_image(Engine.find(asked))}\n")
    except InfraError as error:
        sys.stderr.write(f"error: {error.diagnosis}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
