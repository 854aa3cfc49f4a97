"""`groundswell mlflow`: MLflow's pages on the home's own store."""

import errno
import socket
import subprocess
import sys

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_json
from groundswell.cli.problem import EXIT_UNAVAILABLE, CommandError

_STOP_TIMEOUT_S = 10


@click.command(cls=Command, name="mlflow")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="The port to listen on.")
@pass_invocation
def command(invocation: Invocation, host: str, port: int) -> int:
    """Open MLflow's pages on this home's runs and models, until ctrl-C.

    Where the home's settings name an MLflow server, its address is printed instead.
    """
    from infra.engines import parse_url
    from infra.settings import child_environment

    home = invocation.open_home()
    uri = home.settings.mlflow_tracking_uri
    if uri.startswith(("http://", "https://")):
        _tell(invocation, uri, "this home's MLflow server is at")
        return 0
    _check_free(host, port)
    arguments = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]
    _tell(invocation, f"http://{host}:{port}", "MLflow starts in some seconds (ctrl-C stops it) at")
    # The address may hold a password, which a process's arguments would show to everybody on the machine.
    stores = {
        "MLFLOW_BACKEND_STORE_URI": parse_url(uri).render_as_string(hide_password=False),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": home.settings.artifact_root,
    }
    process = subprocess.Popen(arguments, env={**child_environment(), **stores}, stdout=sys.stderr)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(process)


def _tell(invocation: Invocation, url: str, text: str) -> None:
    if invocation.as_json:
        echo_json({"url": url})
        sys.stdout.flush()
    else:
        click.echo(f"{text} {url}")


def _check_free(host: str, port: int) -> None:
    """Refuses a port that is taken before MLflow has spent seconds on its start."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror or error})"
        raise CommandError(
            f"port {port} of {host} {reason}", hint="choose another with --port", exit_code=EXIT_UNAVAILABLE
        ) from error


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends the server; with ctrl-C on a terminal it has had the signal already."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
