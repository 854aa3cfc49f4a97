"""Creates MLflow's tables in a process of its own, beside other work: ``python -m infra.mlflow_init DB_URL ARTIFACT_ROOT``."""

import sys

from infra.errors import InfraError
from infra.mlflow_client import initialise_mlflow

_NUM_ARGUMENTS = 2


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit code."""
    if len(arguments) != _NUM_ARGUMENTS:
        sys.stderr.write("usage: python -m infra.mlflow_init DB_URL ARTIFACT_ROOT\n")
        return 2
    try:
        initialise_mlflow(*arguments)
    except InfraError as error:
        sys.stderr.write(f"error: {error.diagnosis}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
