"""Serves the application until it is told to stop."""

import errno
import ipaddress
import socket

import uvicorn

from governance.access_token import Scope
from governance.errors import RefusedError
from groundswell.console.app import create_app
from infra.access_tokens import is_any_good
from infra.errors import BackendUnavailableError
from infra.home import Home

_STOP_TIMEOUT_S = 5
_MAX_AT_ONCE = 200
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
_LOG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "groundswell": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}


def is_loopback(host: str) -> bool:
    """Returns whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_access(home: Home, host: str, *, is_open: bool) -> bool:
    """Returns whether reading takes a token at an address.

    Args:
        home: The home.
        host: The address.
        is_open: Whether somebody said that anybody may read there.

    Raises:
        RefusedError: It takes one, and there is none.
    """
    if is_loopback(host) or is_open:
        return False
    if not is_any_good(home.database, Scope.READ):
        raise RefusedError(
            f"{host} can be reached from other machines, and there is no token for reading",
            hint="groundswell identity token create IDENTITY --for read; or --open where a proxy asks who somebody is",
        )
    return True


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        BackendUnavailableError: The port is in use, or the address is none of this machine's.
    """
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=128)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror or error})"
        raise BackendUnavailableError(f"port {port} of {host} {reason}", hint="choose another with --host and --port") from error


def make_server(home: Home, host: str, *, takes_token: bool) -> uvicorn.Server:
    """Returns a server for a home.

    Args:
        home: The home.
        host: The address that somebody named; under a loopback address it answers to the names of this machine alone.
        takes_token: Whether reading takes a token.
    """
    app = create_app(home, takes_token=takes_token, hosts=_LOCAL_NAMES if is_loopback(host) else ("*",))
    config = uvicorn.Config(
        app,
        log_config=_LOG,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        limit_concurrency=_MAX_AT_ONCE,
        timeout_graceful_shutdown=_STOP_TIMEOUT_S,
    )
    return uvicorn.Server(config)


def serve(home: Home, listener: socket.socket, host: str, *, takes_token: bool) -> None:
    """Serves until SIGINT or SIGTERM; requests that are under way are answered first, for some seconds.

    Raises:
        KeyboardInterrupt: It was told to stop, and has.
    """
    make_server(home, host, takes_token=takes_token).run(sockets=[listener])
