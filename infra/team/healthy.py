"""Says by its exit code whether the MLflow server of the settings answers: ``python3 -m infra.team.healthy``.

A health check of a container; it takes no arguments, because engines differ in how they pass them on.
"""

import sys

from infra.backends import check_mlflow_server
from infra.errors import InfraError
from infra.settings import Settings


def main() -> int:
    """Returns 0 where the server answers, otherwise the exit code that fits."""
    try:
        check_mlflow_server(Settings.load().mlflow_tracking_uri)
    except InfraError as error:
        sys.stderr.write(f"error: {error.diagnosis}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
