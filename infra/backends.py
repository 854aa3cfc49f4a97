"""Whether the servers behind a home answer, asked before work begins that would be lost without them."""

import ssl
import urllib.error
import urllib.request

from infra.errors import BackendUnavailableError
from infra.mlflow_client import is_server
from infra.objects.store import check_store, is_remote
from infra.settings import Settings, without_password

_TIMEOUT_S = 5.0
_SERVER_ERROR = 500


def check_backends(settings: Settings) -> None:
    """Asks the MLflow server and the artifact store, where the settings name any, whether they are there.

    Nothing heavy is imported for backends that are on this machine; MLflow itself never is.

    Raises:
        BackendUnavailableError: One of them cannot be reached, or refuses the credentials.
        BadSettingError: Artifacts cannot be stored at the artifact root.
    """
    if is_server(settings.mlflow_tracking_uri):
        check_mlflow_server(settings.mlflow_tracking_uri)
    if is_remote(settings.artifact_root):
        check_store(settings.artifact_root)


def check_mlflow_server(tracking_uri: str) -> None:
    """Asks an MLflow server whether it is there; whether it takes the credentials is seen with the first run.

    Raises:
        BackendUnavailableError: It does not answer within seconds, or answers with an error.
    """
    shown = without_password(tracking_uri)
    try:
        with urllib.request.urlopen(f"{shown.rstrip('/')}/health", timeout=_TIMEOUT_S):  # noqa: S310 - http or https
            return
    except urllib.error.HTTPError as error:
        if error.code < _SERVER_ERROR:  # a server that hides the page is there all the same
            return
        cause: object = f"it answers {error.code}"
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):  # MLflow has a setting of its own for certificates
            return
        cause = getattr(error.reason, "strerror", None) or error.reason
    except OSError as error:
        cause = error.strerror or "it does not answer in time"
    raise BackendUnavailableError(
        f"MLflow at {shown} does not work: {cause}", hint="check the address, and that the server runs; then run the same again"
    )
