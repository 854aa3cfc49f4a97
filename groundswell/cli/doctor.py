"""`groundswell doctor`: what works here, what is missing, and the remedy."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import colour, echo_json, format_size, printable
from groundswell.cli.problem import EXIT_UNAVAILABLE, diagnose

if TYPE_CHECKING:
    from infra.home import Home
    from infra.settings import Settings

_GB = 10**9
_MIN_DISK_BYTES = _GB
_GOOD_DISK_BYTES = 5 * _GB
_GOOD_MEMORY_BYTES = 4 * _GB
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*(?:==\s*([^;,\s]+))?")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found about one thing.

    Attributes:
        name: What was looked at.
        status: ``ok``, ``warning`` (works, with a limit), ``absent`` (optional and not here) or ``missing`` (required).
        found: What was found.
        remedy: What to do about it; empty where there is nothing to do.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


@click.command(cls=Command, name="doctor")
@pass_invocation
def command(invocation: Invocation) -> int:
    """Say what works here and what is missing, each with its remedy.

    Ends with exit code 0 unless something is missing that groundswell needs.
    """
    checks = []
    for check in run_checks(invocation):
        checks.append(check)
        if not invocation.as_json:
            _print(check)
    missing = [check for check in checks if check.status == "missing"]
    if invocation.as_json:
        echo_json({"ok": not missing, "checks": [vars(check) for check in checks]})
    else:
        click.echo()
        warnings = sum(check.status == "warning" for check in checks)
        click.echo(f"{len(missing)} missing, {warnings} with a warning" if missing or warnings else "everything needed works")
    return EXIT_UNAVAILABLE if missing else 0


def _print(check: Check) -> None:
    click.echo(f"{colour(check.status.ljust(8), check.status.strip())} {check.name.ljust(14)} {printable(check.found)}")
    if check.remedy:
        click.echo(f"{'':23} {click.style('->', fg='cyan')} {printable(check.remedy)}")


def run_checks(invocation: Invocation) -> Iterator[Check]:
    """Looks at everything, one by one; a check that fails is a finding, never the end."""
    from infra.settings import Settings

    yield check_python(sys.version_info[:3])
    yield check_packages()
    yield from _guarded("torch", _check_torch)
    yield check_memory()
    try:
        settings = Settings.load(invocation.home_folder)
    except Exception as error:  # noqa: BLE001 - a finding
        yield _finding("settings", error)
        return
    yield check_disk(settings.home)
    yield check_writable(settings.home)
    yield from _guarded("backends", lambda: _check_backends(settings))
    yield from _guarded("home", lambda: _check_home(invocation, settings))
    yield check_engine()


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except Exception as error:  # noqa: BLE001 - whatever breaks is what the doctor has to tell
        yield _finding(name, error)


def _finding(name: str, error: Exception) -> Check:
    problem = diagnose(error)
    return Check(name=name, status="missing", found=problem.diagnosis, remedy=problem.hint)


def check_python(version: tuple[int, ...]) -> Check:
    """Looks at the version of Python."""
    shown = ".".join(map(str, version))
    if (3, 11) <= version < (3, 14):
        return Check(name="python", status="ok", found=shown)
    return Check(name="python", status="missing", found=f"{shown} is not supported", remedy="use Python 3.11, 3.12 or 3.13")


def check_packages() -> Check:
    """Looks whether the packages that groundswell requires are installed, in the versions that it pins."""
    absent, other, count = [], [], 0
    for requirement in metadata.requires("groundswell") or []:
        match = _REQUIREMENT.match(requirement)
        if match is None or "extra ==" in requirement:
            continue
        count += 1
        name, pinned = match.groups()
        try:
            version = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            absent.append(name)
            continue
        if pinned and version != pinned:
            other.append(f"{name} {version} instead of {pinned}")
    remedy = "run `make setup`, which installs from the lock"
    if absent:
        return Check(name="packages", status="missing", found=f"not installed: {', '.join(absent)}", remedy=remedy)
    if other:
        return Check(name="packages", status="warning", found="; ".join(other), remedy=remedy)
    return Check(name="packages", status="ok", found=f"all {count} required packages")


def _check_torch() -> Iterator[Check]:
    import torch

    threads = torch.get_num_threads()
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Check(name="torch", status="ok", found=f"{torch.__version__}, GPU: {names}")
    else:
        yield Check(name="torch", status="ok", found=f"{torch.__version__}, {threads} CPU threads, no GPU")


def check_memory() -> Check:
    """Looks at the memory of the machine."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < _GOOD_MEMORY_BYTES:
        return Check(
            name="memory",
            status="warning",
            found=format_size(total),
            remedy="the default training run needs up to 4 GB: -S train_dit.batch_size=16 needs less",
        )
    return Check(name="memory", status="ok", found=format_size(total))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_disk(home: Path) -> Check:
    """Looks at the space on the home's disk."""
    free = shutil.disk_usage(_existing(home)).free
    found = f"{format_size(free)} free for {home}"
    if free < _MIN_DISK_BYTES:
        return Check(name="disk", status="missing", found=found, remedy="free some space, or choose another home with --home")
    if free < _GOOD_DISK_BYTES:
        return Check(name="disk", status="warning", found=found, remedy="a few runs fit; more need space")
    return Check(name="disk", status="ok", found=found)


def check_writable(home: Path) -> Check:
    """Looks whether the home can be written, or made."""
    folder = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(
            name="home folder",
            status="missing",
            found=f"{folder} cannot be written: {error.strerror}",
            remedy="choose another home with --home, or change the folder's permissions",
        )
    return Check(name="home folder", status="ok", found=str(home) if folder == home else f"{home} can be made")


def _check_backends(settings: "Settings") -> Iterator[Check]:
    from infra.backends import check_backends
    from infra.settings import without_password

    check_backends(settings)
    remote = [url for url in (settings.mlflow_tracking_uri, settings.artifact_root) if "://" in url and "sqlite:" not in url]
    if remote:
        yield Check(name="backends", status="ok", found=f"{', '.join(map(without_password, remote))} answer")


def _check_witnesses(home: "Home") -> Iterator[Check]:
    from infra.log_keys import log_keys
    from infra.witnesses import ask

    if not home.settings.witnesses:
        yield Check(
            name="witnesses",
            status="absent",
            found="none: nobody outside keeps the ledger's checkpoints",
            remedy="set GROUNDSWELL_WITNESSES to a folder on another disk, or an s3:// URL; see docs/OPERATIONS.md",
        )
    with home.database.read() as connection:
        log = log_keys(connection, home.keys.log_public_key())
    for testimony in ask(home.settings.witnesses, log):
        newest = f"newest checkpoint of {testimony.anchors[-1].size:,} entries" if testimony.anchors else "no checkpoint yet"
        status = "warning" if testimony.problem else "ok"
        found = testimony.problem or f"{testimony.location}, {newest}"
        yield Check(name="witness", status=status, found=found, remedy="it gets the next checkpoint" if testimony.problem else "")


def _check_home(invocation: Invocation, settings: "Settings") -> Iterator[Check]:
    if not settings.home.exists():
        yield Check(name="home", status="absent", found="none yet", remedy="the first `groundswell run training` makes it")
        return
    home = invocation.open_home()
    yield from _check_records(home)
    yield _check_mlflow_schema(home)
    yield _check_keys(home)
    yield from _check_witnesses(home)


def _check_records(home: "Home") -> Iterator[Check]:
    from groundswell.cli.audit import ledger_head

    size, root = ledger_head(home)
    yield Check(name="database", status="ok", found=home.database.name)
    yield Check(
        name="ledger", status="ok", found=f"{size:,} entries, root {root[:16]}; `groundswell audit verify` checks them all"
    )


def _check_mlflow_schema(home: "Home") -> Check:
    from sqlalchemy import inspect, text

    from infra.mlflow_client import schema_head

    with home.database.read() as connection:
        has_table = inspect(connection).has_table("alembic_version")
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if has_table else None
    if revision is None:
        return Check(
            name="mlflow",
            status="absent",
            found="its tables are not made yet",
            remedy="the first run makes them, in some seconds",
        )
    head = schema_head()
    if revision != head:
        return Check(
            name="mlflow",
            status="warning",
            found=f"schema {revision}, this MLflow expects {head}",
            remedy="install the MLflow that made it; or `groundswell backup`, then `mlflow db upgrade` with the database's URL",
        )
    return Check(name="mlflow", status="ok", found=f"schema {revision}")


def _check_keys(home: "Home") -> Check:
    folder = home.path / "keys"
    open_keys = [path.name for path in folder.glob("*.pem") if path.stat().st_mode & 0o077]
    if open_keys:
        return Check(
            name="keys",
            status="warning",
            found=f"others can read {', '.join(sorted(open_keys))}",
            remedy=f"chmod 600 {folder}/*.pem",
        )
    return _check_signing_key(home)


def _check_signing_key(home: "Home") -> Check:
    from governance.errors import RefusedError

    try:
        home.require_signing_key()
    except RefusedError as error:
        return Check(name="keys", status="missing", found=error.diagnosis, remedy=error.hint)
    return Check(name="keys", status="ok", found="private keys are readable by their owner only; none in use is revoked")


def check_engine() -> Check:
    """Looks for a container engine and the images of the steps."""
    from components.images import image
    from components.specs import STEPS
    from infra.container_engine import open_engine
    from infra.errors import BackendUnavailableError

    missing, steps = [], [name for name, spec in STEPS.items() if spec.contained]
    try:
        with open_engine() as engine:
            for step in steps:
                try:
                    engine.find_image(image(step))
                except BackendUnavailableError:
                    missing.append(step)
            name = engine.name
    except BackendUnavailableError as error:
        return Check(name="containers", status="absent", found=f"{error.diagnosis}; pipelines run as processes")
    if missing:
        return Check(
            name="containers", status="warning", found=f"{name}, without images for {', '.join(missing)}", remedy="make images"
        )
    return Check(name="containers", status="ok", found=f"{name}, with the images of all {len(steps)} steps that have one")
