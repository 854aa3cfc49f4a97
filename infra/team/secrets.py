"""Makes the secrets of a team's server: ``python -m infra.team.secrets FOLDER``.

The folder gets ``secrets.yaml``, a Kubernetes Secret; ``podman.json``, the same as podman's secret store takes it; and one file
for each value, which settings name by ``NAME_FILE``. Nothing but those files ever holds them.
"""

import argparse
import base64
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.errors import BackendUnavailableError, BadSettingError, InfraError

NAME = "groundswell"
_NUM_BYTES = 24
_NUM_ACCESS_BYTES = 10


def make_secrets(folder: Path) -> None:
    """Makes new random secrets in a new folder, which its owner alone can read.

    Raises:
        BadSettingError: The folder is there already: what it holds may be in force, and is never replaced.
        BackendUnavailableError: It cannot be written.
    """
    access, secret = secrets.token_hex(_NUM_ACCESS_BYTES), secrets.token_urlsafe(_NUM_BYTES)
    values = {
        "access-key-id": access,
        "database-password": secrets.token_urlsafe(_NUM_BYTES),
        "rclone-auth-key": f'"{access},{secret}"',  # a row of CSV
        "secret-access-key": secret,
    }
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    texts = {**values, "podman.json": json.dumps(encoded), "secrets.yaml": _manifest(encoded)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        for name, text in texts.items():
            _write_private(folder / name, text)
    except FileExistsError as error:
        raise BadSettingError(f"{folder} is there already", hint="its secrets may be in force: name another folder") from error
    except OSError as error:
        raise BackendUnavailableError(f"{folder} cannot be made: {error.strerror}") from error


def _manifest(encoded: Mapping[str, str]) -> str:
    lines = ["apiVersion: v1", "kind: Secret", f"metadata: {{name: {NAME}}}", "type: Opaque", "data:"]
    return "".join(f"{line}\n" for line in [*lines, *(f"  {name}: {value}" for name, value in encoded.items())])


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.team.secrets", description="Makes the secrets of a team's server.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that is not there yet, outside version control")
    folder = parser.parse_args(arguments).folder
    try:
        make_secrets(folder)
    except InfraError as error:
        sys.stderr.write(f"error: {error.diagnosis}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(f"{folder}: the secrets of a team's server, readable by you alone\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
