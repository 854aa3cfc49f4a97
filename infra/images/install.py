"""Runs inside an image while it is built: installs what the image adds, and leaves out what no program there reads.

Standard library only. What it writes depends on nothing but its input: no time, no log, no cache.
"""

import argparse
import csv
import io
import os
import py_compile
import subprocess
import sys
import tempfile
import venv
from fnmatch import fnmatch
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

ENVIRONMENT = Path("/opt/groundswell")
USER_ID = 65532
_BUILD = Path(__file__).parent
_OWN = "groundswell"
_IMPORTER = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
sys.stdout.write("".join(f"{file}\\n" for file in files if "/site-packages/" in file and file.endswith(".py")))
"""
_ACCOUNT = f"groundswell:x:{USER_ID}:{USER_ID}::/tmp:/usr/sbin/nologin\n"
_GROUP = f"groundswell:x:{USER_ID}:\n"

# Files of libraries that nothing here reads: what compilers need, and servers and formats that are never used.
_LEFT_OUT = (
    "*.pxd",
    "*.pyi",
    "*.pyx",
    "botocore/data/*/*",
    "numpy/_core/include/*",
    "numpy/_core/lib/*.a",
    "numpy/random/lib/*.a",
    "pyarrow/_flight*",
    "pyarrow/include/*",
    "pyarrow/libarrow_flight*",
    "pyarrow/src/*",
    "torch/include/*",
    "torch/lib/*.a",
    "torch/share/*",
    "torch/test/*",
)
# Libraries that carry their own tests.
_TESTED = ("matplotlib", "mpl_toolkits", "networkx", "numpy", "pandas", "pyarrow", "scipy", "sklearn", "sympy", "torch")
# What stays all the same: object storage and ways to log in to it; the one test that programs reach, through numpy.testing.
_KEPT = (
    "botocore/data/s3/*",
    "botocore/data/signin/*",
    "botocore/data/sso-oidc/*",
    "botocore/data/sso/*",
    "botocore/data/sts/*",
    "numpy/_core/tests/_natype.py",
)


def main() -> int:
    """Installs the libraries of a layer or an image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the layer's or the image's name")
    name = parser.parse_args().name
    if not ENVIRONMENT.exists():
        venv.create(ENVIRONMENT, with_pip=False, symlinks=True)
        _add_account()
    requirements = _BUILD / "requirements" / f"{name}.txt"
    present = {one.name for one in _installed()}
    if requirements.read_text(encoding="utf-8").strip():
        _install(requirements)
    for distribution in _installed():
        if distribution.name not in present:
            _leave_out(distribution)
    _compile(_imported((_BUILD / "imports" / f"{name}.txt").read_text(encoding="utf-8").split()) | _own())
    return 0


def _add_account() -> None:
    """Gives the images' user a name, for programs that ask."""
    for path, line in ((Path("/etc/passwd"), _ACCOUNT), (Path("/etc/group"), _GROUP)):
        with path.open("a", encoding="utf-8") as file:
            file.write(line)


def _install(requirements: Path) -> None:
    (pip,) = (_BUILD / "wheels").glob("pip-*.whl")
    options = ["--no-index", "--find-links", str(_BUILD / "wheels"), "--require-hashes", "--no-deps", "--no-compile"]
    quiet = ["--quiet", "--no-cache-dir", "--disable-pip-version-check", "--no-warn-script-location", "--root-user-action=ignore"]
    command = [str(ENVIRONMENT / "bin" / "python"), str(pip / "pip"), "install", *options, *quiet, "-r", str(requirements)]
    subprocess.run(command, check=True, env={**os.environ, "TMPDIR": "/tmp"})  # noqa: S108 - the image's own


def _site_packages() -> Path:
    (found,) = ENVIRONMENT.glob("lib/python3*/site-packages")
    return found


def _installed() -> list[Distribution]:
    return sorted(distributions(path=[str(_site_packages())]), key=lambda one: one.name)


def _own() -> set[Path]:
    """Returns groundswell's modules, where it is installed."""
    own = [one for one in _installed() if one.name == _OWN]
    return {_site_packages() / path for one in own for path in one.files or [] if path.suffix == ".py"}


def _leave_out(distribution: Distribution) -> None:
    """Removes files that nothing reads, from the disk and from the distribution's own list."""
    site = _site_packages()
    record = next(path for path in distribution.files or [] if path.name == "RECORD" and path.parent.suffix == ".dist-info")
    rows = list(csv.reader(io.StringIO((site / record).read_text(encoding="utf-8"))))
    gone = [row for row in rows if is_left_out(row[0])]
    for row in gone:
        (site / row[0]).unlink(missing_ok=True)
    for folder in sorted({parent for row in gone for parent in (site / row[0]).parents if site in parent.parents}, reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if gone:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(row for row in rows if row not in gone)
        (site / record).write_text(text.getvalue(), encoding="utf-8")


def is_left_out(path: str) -> bool:
    """Returns whether a file, by its path below ``site-packages``, stays out of the images."""
    parts = PurePosixPath(path).parts
    is_test = parts[0] in _TESTED and "tests" in parts[:-1]
    return (is_test or _matches(path, _LEFT_OUT)) and not _matches(path, _KEPT)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _imported(names: list[str]) -> set[Path]:
    """Imports modules in a process of its own and returns the files that this read.

    Raises:
        subprocess.CalledProcessError: One cannot be imported: the image lacks something.
    """
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "HOME": scratch, "TMPDIR": scratch, "MPLCONFIGDIR": scratch, "_KFP_RUNTIME": "true"}
        command = [str(ENVIRONMENT / "bin" / "python"), "-c", _IMPORTER, *names]
        ended = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return {Path(line) for line in ended.stdout.splitlines()}


def _compile(sources: set[Path]) -> None:
    """Compiles what has not been compiled, so that it is never checked against times that a layer does not keep."""
    for source in sorted(sources):
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        if not compiled.exists():
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(source), str(compiled), str(source), doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    sys.exit(main())
