import json
from pathlib import Path

import pytest

from infra.home import Home
from infra.keys import PACKAGE_KEY
from infra.model_package import sign_package
from infra.tables import model_versions
from tests.groundswell.conftest import Cli
from tests.infra.package_inputs import make_package

FIRST, SECOND = "emoji-dit/1", "emoji-dit/2"


def register(home: Home, folder: Path, version: int, *, weight: float, kid: float) -> Path:
    package = make_package(folder, weight=weight)
    signed = sign_package(package, home.keys.private_path(PACKAGE_KEY))
    metrics = {"kid": kid, "kid_low": kid / 2, "kid_high": kid * 2}
    with home.database.unit_of_work() as uow:
        uow.connection.execute(
            model_versions.insert().values(
                name="emoji-dit",
                version=version,
                root_digest=signed.root_digest,
                location=str(package),
                run_id=None,
                metrics=json.dumps(metrics),
                inputs=json.dumps({"dataset": "d" * 64, "latents": str(version) * 64}),
                created=uow.time,
            )
        )
    return package


@pytest.fixture
def packages(home: Home, tmp_path: Path) -> tuple[Path, Path]:
    """Two registered models."""
    return (
        register(home, tmp_path / "first", 1, weight=0.5, kid=0.5),
        register(home, tmp_path / "second", 2, weight=0.75, kid=0.25),
    )


def test_a_new_home_has_no_models(cli: Cli, home: Home) -> None:
    assert "no models yet" in cli("--home", home.path, "models", "list").stdout


@pytest.mark.usefixtures("packages")
def test_models_are_listed(cli: Cli, home: Home) -> None:
    lines = cli("--home", home.path, "models", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["MODEL", FIRST, SECOND]
    assert "kid 0.5" in lines[1]
    document = cli("--home", home.path, "--json", "models", "list").document
    assert [model["model"] for model in document["models"]] == [FIRST, SECOND]


@pytest.mark.usefixtures("packages")
def test_a_model_is_verified_and_shown(cli: Cli, home: Home) -> None:
    shown = cli("--home", home.path, "models", "show", FIRST)
    assert shown.exit_code == 0
    assert "files and the signature" in shown.stdout
    assert "architecture.hidden_size" in shown.stdout
    assert "0.25 to 1" in shown.stdout
    document = cli("--home", home.path, "--json", "models", "show", FIRST).document
    assert document["verified"]
    assert document["config"]["objective"] == "rectified_flow"
    assert cli("--home", home.path, "models", "show", FIRST, "--card").stdout.startswith("# emoji-dit\n")


@pytest.mark.parametrize("arguments", [["models", "show", FIRST], ["models", "diff", SECOND, FIRST]])
def test_a_changed_package_is_refused_with_exit_code_four(
    cli: Cli, home: Home, packages: tuple[Path, Path], arguments: list[str]
) -> None:
    weights = packages[0] / "transformer.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    called = cli("--home", home.path, "--json", *arguments)
    assert called.exit_code == 4
    assert "transformer.safetensors of the model package was changed" in called.document["error"]


@pytest.mark.usefixtures("packages")
def test_two_models_are_compared(cli: Cli, home: Home) -> None:
    shown = cli("--home", home.path, "models", "diff", FIRST, SECOND).stdout
    assert "-0.25" in shown
    assert "same" in shown
    document = cli("--home", home.path, "--json", "models", "diff", FIRST, SECOND).document
    assert document["metrics"]["kid"] == {FIRST: 0.5, SECOND: 0.25}
    assert not document["same_package"]


@pytest.mark.parametrize("name", ["emoji-dit/9", "emoji-dit@production", "nonsense"])
def test_an_unknown_model_is_bad_input(cli: Cli, home: Home, name: str) -> None:
    for arguments in (["models", "show", name], ["generate", name, "--label", "food", "--out", "x"]):
        called = cli("--home", home.path, *arguments)
        assert called.exit_code == 3
        assert called.stderr.startswith("error: ")
        assert "hint: " in called.stderr
    assert not Path("x").exists()
