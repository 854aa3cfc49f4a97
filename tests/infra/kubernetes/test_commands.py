"""What containers run and read: commands that the real programs take, settings that somebody reads, images as they are built."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from groundswell.cli.main import cli
from infra.images.catalogue import ROOT
from infra.settings import _BACKEND_VARIABLES, _KEYS
from tests.infra.kubernetes.rendering import OVERLAYS, of_kind, pod_templates, render
from tests.infra.kubernetes.test_security import containers


def all_containers(overlay: str) -> dict[str, dict[str, Any]]:
    """Returns the containers of an overlay by ``what makes the pod/container``."""
    templates = pod_templates(render(overlay)).items()
    return {f"{name}/{one['name']}": one for name, template in templates for one in containers(template["spec"])}


def parse(arguments: Sequence[str]) -> click.Context:
    """Parses a call of the command line down to its verb, without doing anything.

    Raises:
        click.UsageError: There is no such verb or option, or a value is none.
    """
    context = cli.make_context("groundswell", list(arguments))
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_command_line_takes_what_it_is_called_with(overlay: str) -> None:
    called = {}
    for name, container in all_containers(overlay).items():
        if "/platform-python" in container["image"] and "command" not in container:
            context = parse(container["args"])
            called[name] = (
                context.command_path.removeprefix("groundswell "),
                {key for key, given in context.params.items() if given},
            )
    assert called == {
        "groundswell-checkpoint/checkpoint": ("audit checkpoint", set()),
        "groundswell-console/console": ("console", {"host", "port"}),
        "groundswell-expiry/expiry": ("notify", set()),
        "groundswell-verification/verification": ("audit verify", set()),
    }
    recipe = (ROOT / "infra" / "images" / "Containerfile.platform").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["groundswell"]' in recipe  # which `args` leave as it is


def test_a_call_that_the_command_line_does_not_take_is_seen() -> None:
    for arguments in (["audit", "anchor"], ["audit", "checkpoint", "--out", "a"], ["console", "--port=http"], ["expire"]):
        with pytest.raises(click.UsageError):
            parse(arguments)


def test_what_is_called_otherwise_is_a_shell_or_the_initialisation_of_mlflow() -> None:
    called = {name: one["command"] for overlay in OVERLAYS for name, one in all_containers(overlay).items() if "command" in one}
    assert called.pop("groundswell-admin/admin") == ["sleep", "infinity"]
    assert called.pop("groundswell-objects/objects")[:2] == ["sh", "-c"]
    schema = called.pop("groundswell-mlflow/schema")
    assert schema[:2] == ["python3", "-m"]
    assert (ROOT / f"{schema[2].replace('.', '/')}.py").is_file()
    assert called.keys() == {"groundswell-mlflow/mlflow", "groundswell-mlflow-upgrade/upgrade"}


def mlflow_variables() -> set[str]:
    """Returns the variables that MLflow's server reads; its command line as text, because importing it takes twenty seconds."""
    import mlflow
    from mlflow import environment_variables
    from mlflow.environment_variables import _EnvironmentVariable

    package = Path(mlflow.__file__).parent
    texts = [(package / name).read_text(encoding="utf-8") for name in ("cli/__init__.py", "utils/cli_args.py")]
    options = {name for text in texts for name in re.findall(r'envvar="(\w+)"', text)}
    return options | {one.name for one in vars(environment_variables).values() if isinstance(one, _EnvironmentVariable)}


def test_mlflow_takes_what_it_is_called_with() -> None:
    from mlflow.db import commands

    for overlay in OVERLAYS:
        programs = all_containers(overlay)
        assert programs["groundswell-mlflow/mlflow"]["command"] == ["mlflow", "server"]  # all else is in variables
        group, verb, *arguments = programs["groundswell-mlflow-upgrade/upgrade"]["command"][1:]
        assert group == commands.name
        context = commands.commands[verb].make_context(verb, arguments)
        # Kubernetes puts the variable's value in its place.
        (variable,) = re.findall(r"^\$\((\w+)\)$", context.params["url"])
        assert variable in {one["name"] for one in programs["groundswell-mlflow-upgrade/upgrade"]["env"]}


def test_whatever_is_set_is_read() -> None:
    backends = set(_BACKEND_VARIABLES)
    theirs = mlflow_variables() | backends
    ours = {"GROUNDSWELL_HOME", *_KEYS.values(), *(f"{name}_FILE" for name in _KEYS.values()), *backends}
    for overlay in OVERLAYS:
        configs = {name: one["data"] for name, one in of_kind(render(overlay), "ConfigMap").items()}
        for name, container in all_containers(overlay).items():
            given = {variable["name"] for variable in container.get("env", ())}
            given |= {key for one in container.get("envFrom", ()) for key in configs[one["configMapRef"]["name"]]}
            if "/platform-python" in container["image"] or name == "groundswell-mlflow/schema":
                assert given <= ours, name
            elif "/mlflow-python" in container["image"]:
                assert given <= theirs, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_jobs_do_not_meet_themselves_and_end(overlay: str) -> None:
    jobs = of_kind(render(overlay), "CronJob")
    assert {name for name, job in jobs.items() if job["spec"].get("suspend")} == {"groundswell-mlflow-upgrade"}
    for name, job in jobs.items():
        spec = job["spec"]
        assert spec["concurrencyPolicy"] == "Forbid", name
        assert spec["timeZone"] == "Etc/UTC", name
        assert len(spec["schedule"].split()) == 5, name
        assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never", name
        if (every := re.fullmatch(r"\*/(\d+) \* \* \* \*", spec["schedule"])) is not None:
            assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 60 * int(every[1]), name
