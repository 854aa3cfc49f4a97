"""`groundswell console`: the platform service."""

import sys

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_json
from groundswell.cli.stopping import terminate_as_interrupt


@click.command(
    cls=Command,
    name="console",
    examples=(
        "groundswell console",
        "groundswell console --host 0.0.0.0 --port 8080",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The port; 0 for any that is free.")
@click.option("--open", "is_open", is_flag=True, help="Let anybody read at an address that other machines reach.")
@pass_invocation
def command(invocation: Invocation, host: str, port: int, is_open: bool) -> int:
    """Serve the pages of this home, its metrics for Prometheus, and an endpoint for lineage events, until ctrl-C.

    On an address of this machine alone everybody may read; on any other, reading takes a token, unless --open says that
    something in front asks who somebody is. Recording lineage always takes one: see `groundswell identity token`.
    """
    home = invocation.open_home()
    from groundswell.console.server import bind, check_access, serve

    takes_token = check_access(home, host, is_open=is_open)
    with bind(host, port) as listener:
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        if invocation.as_json:
            echo_json({"url": url, "takes_token": takes_token})
        else:
            click.echo(f"the console is at {url} (ctrl-C stops it)")
            if takes_token:
                click.echo("reading takes a token: any user name, the token as password")
        sys.stdout.flush()
        try:
            with terminate_as_interrupt():
                serve(home, listener, host, takes_token=takes_token)
        except KeyboardInterrupt:
            return 0
        finally:
            home.database.close()
    return 0
