"""Builds the container images: ``python -m infra.images.build``, which ``make images`` calls.

Every build starts from nothing, sees one folder and no network, and gets its times from the commit, so that the same checkout
gives the same digests. What has not changed since it was built is left as it is: each image carries the digest of its input.
"""

import argparse
import errno
import hashlib
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from infra.errors import BackendUnavailableError, BadSettingError, InfraError
from infra.images import debian
from infra.images.catalogue import FOLDER, ROOT, ImageSpec, catalogue, distribution_version
from infra.images.engine import BuiltImage, Engine, Recipe
from infra.images.wheelhouse import Wheelhouse
from infra.locking import lock
from infra.settings import image_name

BUDGET = FOLDER / "budget.toml"
REPORTS = ROOT / "build" / "images"
OFFICIAL_BASE = "docker.io/library/python:3.11-slim"
CODE_LABEL = "io.groundswell.code"
INPUTS_LABEL = "io.groundswell.inputs"
_OCI = "org.opencontainers.image"
_SBOM = "/usr/share/groundswell/sbom.cdx.json"
_LAYER_EPOCH = 315_532_800  # 1980-01-01: layers below the images are the same for every commit
_MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source that the images are built from.

    Attributes:
        revision: The commit, with ``-dirty`` where the checkout differs from it.
        epoch: The commit's time, in seconds since 1970.
    """

    revision: str
    epoch: int

    @classmethod
    def of_checkout(cls) -> "Source":
        """Returns the source of this checkout.

        Raises:
            BadSettingError: It is no git checkout.
        """
        try:
            commit, epoch = _git("log", "-1", "--format=%H %ct").split()
        except (OSError, ValueError) as error:
            raise BadSettingError(f"{ROOT} is no git checkout with a commit", hint="images are built from one") from error
        return cls(revision=commit + ("-dirty" if _git("status", "--porcelain") else ""), epoch=int(epoch))

    @property
    def created(self) -> str:
        """The commit's time, RFC 3339."""
        return datetime.fromtimestamp(self.epoch, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One image that is here now, and how long that took."""

    name: str
    image: str
    id: str
    digest: str
    size_mb: float
    budget_mb: float | None
    seconds: float


class Builder:
    """Builds images with one engine on one base image.

    Args:
        engine: The engine.
        base: The base image.
        source: The source that is built.
        rebuild: Whether to build what has not changed, too.
    """

    def __init__(self, engine: Engine, base: BuiltImage, source: Source, *, rebuild: bool) -> None:
        self._engine = engine
        self._base = base
        self._source = source
        self._rebuild = rebuild
        python = engine.read(base.name, ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
        self._wheelhouse = Wheelhouse(folder=ROOT / "build" / "wheelhouse" / f"python{python}", python=python)
        self._built: dict[str, BuiltImage] = {}
        self._code = ""

    def prepare(self) -> None:
        """Fills the wheelhouse."""
        self._code = self._wheelhouse.fill(self._source.epoch)

    def build(self, spec: ImageSpec) -> BuiltImage:
        """Builds an image and the layers below it, or finds it built from the same input."""
        if spec.name in self._built:
            return self._built[spec.name]
        below = self.build(catalogue()[spec.on]) if spec.on else self._base
        recipe = self._recipe(spec, below)
        found = self._engine.find_image(recipe.name)
        if self._rebuild or found is None or found.labels.get(INPUTS_LABEL) != recipe.labels[INPUTS_LABEL]:
            self._engine.build(recipe)
            found = self._engine.find_image(recipe.name)
        if found is None:
            raise BackendUnavailableError(f"{self._engine.program} built {recipe.name} and does not have it")
        if not spec.is_layer:
            (REPORTS / f"{spec.name}.cdx.json").write_text(self._engine.read(found.name, ["cat", _SBOM]), encoding="utf-8")
        self._built[spec.name] = found
        return found

    def _recipe(self, spec: ImageSpec, below: BuiltImage) -> Recipe:
        labels = self._layer_labels(spec) if spec.is_layer else self._image_labels(spec)
        if not spec.is_layer:
            about = {"name": spec.image(), "version": distribution_version()}
            self._write_about(spec, about | {"created": self._source.created, "revision": self._source.revision})
        labels[INPUTS_LABEL] = self._inputs(spec, below, labels)
        return Recipe(
            name=spec.image(),
            containerfile=ROOT / spec.containerfile,
            context=self._wheelhouse.folder,
            arguments={"BASE": below.name, "LAYER": spec.name} if spec.is_layer and spec.on else {"BASE": below.name},
            labels=labels,
            epoch=_LAYER_EPOCH if spec.is_layer else self._source.epoch,
        )

    def _write_about(self, spec: ImageSpec, about: Mapping[str, str]) -> None:
        path = self._wheelhouse.folder / "about" / f"{spec.name}.json"
        path.write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")

    def _layer_labels(self, spec: ImageSpec) -> dict[str, str]:
        return {f"{_OCI}.title": spec.title, f"{_OCI}.base.name": self._base.name, f"{_OCI}.base.digest": self._base.digest}

    def _image_labels(self, spec: ImageSpec) -> dict[str, str]:
        return {
            **self._layer_labels(spec),
            f"{_OCI}.version": distribution_version(),
            f"{_OCI}.revision": self._source.revision,
            f"{_OCI}.created": self._source.created,
            f"{_OCI}.licenses": "Apache-2.0",
            CODE_LABEL: self._code,
        }

    def _inputs(self, spec: ImageSpec, below: BuiltImage, labels: Mapping[str, str]) -> str:
        """Returns the digest of everything that an image follows from."""
        folder = self._wheelhouse.folder
        listed = [folder / kind / f"{spec.name}.txt" for kind in ("requirements", "imports")]
        files = [ROOT / spec.containerfile, *listed, folder / "install.py", folder / "sbom.py"]
        contents = [path.read_text(encoding="utf-8") for path in files]
        stated = json.dumps([below.id, contents, dict(labels)], sort_keys=True)
        return hashlib.sha256(stated.encode()).hexdigest()


def find_base(engine: Engine, asked: str) -> BuiltImage:
    """Returns the base image: the one that was asked for, otherwise python:3.11-slim, otherwise one that debootstrap makes.

    Args:
        engine: The engine.
        asked: Its name; empty for the first of those that can be had; ``debootstrap`` for the last of them.

    Raises:
        BackendUnavailableError: It cannot be had.
    """
    own = own_base()
    if asked == "debootstrap":
        return engine.find_image(own) or make_base(engine)
    if asked:
        found = engine.find_image(asked) or (engine.find_image(asked) if engine.pull(asked) else None)
        if found is None:
            raise BackendUnavailableError(
                f"{engine.program} neither has the base image {asked} nor can pull it",
                hint="make images BASE=debootstrap needs no registry",
            )
        return found
    for name in (OFFICIAL_BASE, own):
        if (found := engine.find_image(name)) is not None:
            return found
    _tell(f"pulling {OFFICIAL_BASE}")
    if engine.pull(OFFICIAL_BASE) and (found := engine.find_image(OFFICIAL_BASE)) is not None:
        return found
    _tell("no registry answers")
    return make_base(engine)


def own_base() -> str:
    """Returns the name of the base image that debootstrap makes; its tag is Debian's, whatever the tag of the images."""
    return f"{image_name('debian', version='').rpartition(':')[0]}:{debian.SUITE}"


def make_base(engine: Engine) -> BuiltImage:
    """Makes a base image with debootstrap.

    Raises:
        BackendUnavailableError: debootstrap is not there or failed.
    """
    name = own_base()
    _tell(f"making {name} with debootstrap (two minutes, once)")
    context = ROOT / "build" / "base"
    debian.make_root(context / "root", context / "rootfs.tar")
    title = f"Debian {debian.SUITE} with Python, for groundswell"
    engine.build(
        Recipe(
            name=name,
            containerfile=FOLDER / "Containerfile.debian",
            context=context,
            arguments={},
            labels={f"{_OCI}.title": title, INPUTS_LABEL: debian.SUITE},
            epoch=_LAYER_EPOCH,
        )
    )
    (context / "rootfs.tar").unlink()
    found = engine.find_image(name)
    if found is None:
        raise BackendUnavailableError(f"{engine.program} built {name} and does not have it")
    return found


def budget() -> Mapping[str, float]:
    """Returns the most megabytes that each image may take."""
    found: Mapping[str, float] = tomllib.loads(BUDGET.read_text(encoding="utf-8"))
    return found


def build_images(engine: Engine, base: BuiltImage, names: Sequence[str], *, rebuild: bool) -> list[Outcome]:
    """Builds images and returns what came out of it, in the order of the names.

    Raises:
        InfraError: One could not be built.
    """
    builder = Builder(engine, base, Source.of_checkout(), rebuild=rebuild)
    _tell(f"wheels for {base.name}")
    builder.prepare()
    outcomes = []
    for name in names:
        _tell(f"image {name}")
        began = time.monotonic()
        built = builder.build(catalogue()[name])
        outcomes.append(
            Outcome(
                name=name,
                image=built.name,
                id=built.id,
                digest=built.digest,
                size_mb=round(built.size_bytes / _MEGABYTE, 1),
                budget_mb=budget().get(name),
                seconds=round(time.monotonic() - began, 1),
            )
        )
    engine.remove_dangling()
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns the outcomes as a table for people."""
    lines = [f"{'image':<16} {'MB':>7} {'budget':>7} {'s':>6}  digest"]
    lines += [
        f"{one.name:<16} {one.size_mb:>7.0f} {one.budget_mb or 0:>7.0f} {one.seconds:>6.0f}  {one.digest}" for one in outcomes
    ]
    return "\n".join(lines) + "\n"


def check_budget(outcomes: Sequence[Outcome]) -> None:
    """Refuses images that are larger than they may be.

    Raises:
        BadSettingError: One is, or has no budget.
    """
    over = [f"{one.name} takes {one.size_mb:.0f} MB" for one in outcomes if one.size_mb > (one.budget_mb or 0)]
    if over:
        raise BadSettingError(f"over budget: {', '.join(over)}", hint=f"see {BUDGET.relative_to(ROOT)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    images = [spec.name for spec in catalogue().values() if not spec.is_layer]
    parser = argparse.ArgumentParser(prog="python -m infra.images.build", description="Builds the container images.")
    parser.add_argument("names", nargs="*", metavar="IMAGE", help=f"what to build (default: all): {', '.join(images)}")
    parser.add_argument("--engine", default="", help="docker or podman; the first that answers by default")
    parser.add_argument("--base", default="", help="the base image; python:3.11-slim or what debootstrap makes by default")
    parser.add_argument("--base-only", action="store_true", help="make the base image with debootstrap, and nothing else")
    parser.add_argument("--rebuild", action="store_true", help="build what has not changed, too")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(images)):
        parser.error(f"no such image: {', '.join(unknown)}")
    try:
        engine = Engine.find(given.engine)
        if given.base_only:
            sys.stdout.write(f"{make_base(engine).name}\n")
            return 0
        with lock(REPORTS / "lock"):
            outcomes = build_images(engine, find_base(engine, given.base), given.names or images, rebuild=given.rebuild)
            text = json.dumps([asdict(one) for one in outcomes], indent=1) + "\n"
            (REPORTS / "images.json").write_text(text, encoding="utf-8")
        sys.stdout.write(table(outcomes))
        check_budget(outcomes)
    except InfraError as error:
        return _fail(error.diagnosis, error.hint, error.exit_code)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "free some space and try again" if full else "images are built below build/, which must be writable"
        return _fail(f"{error.filename or 'build'}: {error.strerror}", hint, BackendUnavailableError.exit_code)
    return 0


def _fail(diagnosis: str, hint: str, exit_code: int) -> int:
    sys.stderr.write(f"error: {diagnosis}\nhint: {hint}\n")
    return exit_code


def _tell(text: str) -> None:
    sys.stderr.write(f"==> {text}\n")
    sys.stderr.flush()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
