"""The options by which commands find a Kubeflow Pipelines server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_Decorated = Callable[..., Any]


def server_options(*, required: bool) -> Callable[[_Decorated], _Decorated]:
    """Adds the options `host`, `namespace` and `token_file`.

    Args:
        required: Whether the command can do nothing without a server.
    """
    options = (
        click.option("--host", metavar="URL", required=required, help="The Kubeflow Pipelines server, with the path of its API."),
        click.option(
            "--namespace", metavar="NAME", default="", help="The namespace of your profile, where there are several users."
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="A file, readable by its owner alone, with the bearer token; read anew for each request.",
        ),
    )

    def add(function: _Decorated) -> _Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return add
