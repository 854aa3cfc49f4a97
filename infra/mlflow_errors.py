"""What goes wrong with MLflow, in one line of ours."""

from collections.abc import Iterator

from infra.database_errors import unavailable_database
from infra.errors import BackendUnavailableError
from infra.settings import without_password

# Bounds of MLflow's own on one request to a server: together a server that never answers is given up after about half a minute.
REQUEST_BOUNDS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
}
_REACH = "check the address, and that the server runs; then run the same again"
_CREDENTIALS = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_BY_CODE = {
    "UNAUTHENTICATED": ("it refuses the credentials", _CREDENTIALS),
    "CUSTOMER_UNAUTHORIZED": ("it refuses the credentials", _CREDENTIALS),
    "PERMISSION_DENIED": ("the credentials do not allow it", "ask its administrator for permission to write"),
    "REQUEST_LIMIT_EXCEEDED": ("it asks for fewer requests", "try again later"),
    "TEMPORARILY_UNAVAILABLE": ("it is not available", "try again later"),
}
# By the names of the exceptions of requests and urllib3; the more particular first.
_BY_TYPE = (
    ("SSLError", ("its certificate cannot be verified", "check MLFLOW_TRACKING_SERVER_CERT_PATH")),
    ("ProxyError", ("the proxy before it cannot be reached", "check HTTPS_PROXY and NO_PROXY")),
    ("NameResolutionError", ("its name is not known", _REACH)),
    ("ConnectTimeout", ("it cannot be reached in time", _REACH)),
    ("ReadTimeout", ("it does not answer in time", _REACH)),
    ("ReadTimeoutError", ("it does not answer in time", _REACH)),
    ("NewConnectionError", ("it cannot be reached", _REACH)),
    ("ConnectionError", ("the connection to it broke", _REACH)),
    ("RetryError", ("it answers with errors only", "see the server's log")),
)
_HINT = "check the database or server and its free space; `groundswell doctor` tells more"


def unavailable(tracking_uri: str, error: BaseException) -> BackendUnavailableError:
    """Returns the one-line error for whatever went wrong with MLflow, its database or its server.

    Args:
        tracking_uri: The server's address or the database's URL.
        error: What was raised.
    """
    database = None if "://" not in tracking_uri or tracking_uri.startswith("http") else without_password(tracking_uri)
    if database and (found := unavailable_database(database, error)):
        return found
    text = " ".join(str(error).split()) or type(error).__name__
    cause, hint = text[:300], _HINT
    code = str(getattr(error, "error_code", ""))
    if code in _BY_CODE:
        cause, hint = _BY_CODE[code]
    elif type(error).__module__.startswith(("mlflow.", "requests.", "urllib3.")):
        kinds = {kind.__name__ for one in _causes(error) for kind in type(one).__mro__ if kind.__module__ != "builtins"}
        cause, hint = next((explained for name, explained in _BY_TYPE if name in kinds), (cause, hint))
    return BackendUnavailableError(f"MLflow at {without_password(tracking_uri)} does not work: {cause}", hint=hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and what caused it, urllib3's ``reason`` included."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
