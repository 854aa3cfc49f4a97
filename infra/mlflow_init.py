"""Creates MLflow's tables in a process of its own, beside other work: ``python -m infra.mlflow_init HOME``.

The database's URL may hold a password, so it is read from the settings: everybody can see a process's arguments.
"""

import sys
from pathlib import Path

from governance.errors import GovernanceError
from infra.errors import InfraError
from infra.mlflow_client import initialise_mlflow
from infra.settings import Settings


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m infra.mlflow_init HOME\n")
        return 2
    try:
        settings = Settings.load(Path(arguments[0]))
        settings.export()
        initialise_mlflow(settings.mlflow_tracking_uri, settings.artifact_root)
    except (InfraError, GovernanceError) as error:
        sys.stderr.write(f"error: {error.diagnosis}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
