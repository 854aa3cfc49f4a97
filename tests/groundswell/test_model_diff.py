"""`models diff` on real packages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from governance.package_contents import build_package
from infra.home import Home
from infra.keys import PACKAGE_KEY
from infra.model_package import sign_package
from infra.tables import model_versions
from tests.groundswell.conftest import Cli
from tests.infra.package_inputs import make_sources, write_inputs

FIRST, SECOND = "emoji-dit/1", "emoji-dit/2"


def resamples(kid: float, *, holdout: str = "ab" * 32) -> dict[str, Any]:
    shared, own = np.random.default_rng(0).normal(0, 0.05, 400), np.random.default_rng(round(1e6 * kid)).normal(kid, 0.002, 400)
    return {"seed": 0, "num": 400, "holdout": holdout, "metrics": {"kid": (shared + own).tolist()}}


Register = Callable[..., None]


@pytest.fixture
def register(home: Home, tmp_path: Path) -> Register:
    """Registers a package whose evaluation says what it is told to."""

    def do(version: int, kid: float, *, colour: tuple[int, int, int] = (200, 30, 30), **options: Any) -> None:
        root = tmp_path / str(version)
        inputs = write_inputs(root / "inputs", weight=version / 8)
        path = inputs["evaluation"] / "report.json"
        metrics = {"kid": kid, "kid_low": kid - 0.02, "kid_high": kid + 0.02, "kid_real": 0.0004}
        path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": metrics, **options}))
        Image.new("RGB", (8, 8), colour).save(inputs["evaluation"] / "samples.png")
        package = root / "package"
        package.mkdir()
        build_package(package, make_sources(inputs), name="emoji-dit")
        signed = sign_package(package, home.keys.private_path(PACKAGE_KEY))
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

    return do


@pytest.fixture
def models(register: Register) -> None:
    register(1, 0.3, resamples=resamples(0.3))
    register(2, 0.2, colour=(30, 200, 30), resamples=resamples(0.2))


@pytest.mark.usefixtures("models")
def test_a_paired_difference_is_told_with_its_interval(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "models", "diff", FIRST, SECOND)
    assert called.exit_code == 0, called.stderr
    lines = called.stdout.splitlines()
    assert lines[0] == "emoji-dit/2 draws better than emoji-dit/1"
    kid = next(line for line in lines if line.split()[:1] == ["kid"])
    assert kid.split()[1:9] == ["0.3", "(0.28", "to", "0.32)", "0.2", "(0.18", "to", "0.22)"]
    assert kid.split()[9] == "-0.1"
    assert kid.split()[-1] == "better"
    assert "not known to be drawn" not in called.stdout
    document = cli("--home", home.path, "--json", "models", "diff", FIRST, SECOND).document
    found = document["differences"]["kid"]
    assert found["difference"] == pytest.approx(-0.1)
    assert found["low"] < found["difference"] < found["high"] < -0.09
    assert found["verdict"] == "better"
    assert document["metrics"]["kid_real"] == {FIRST: 0.0004, SECOND: 0.0004}
    assert document["same_holdout"] is True
    assert document["inputs"]["latents"] == {FIRST: "1" * 64, SECOND: "2" * 64}
    assert document["lineage"]["models"] == [FIRST, SECOND]
    assert len(set(document["pictures"]["evaluation/samples.png"].values())) == 2


def test_evaluations_on_other_holdouts_are_told_apart(cli: Cli, home: Home, register: Register) -> None:
    register(1, 0.3, resamples=resamples(0.3))
    register(2, 0.2, resamples=resamples(0.2, holdout="cd" * 32))
    shown = cli("--home", home.path, "models", "diff", FIRST, SECOND).stdout
    assert "no interval of the change: kid of the second model and the first model cannot be compared" in shown
    assert "not known to be drawn for the same descriptions" in shown
    document = cli("--home", home.path, "--json", "models", "diff", FIRST, SECOND).document
    assert document["differences"] == {}
    assert "different holdouts" in document["not_comparable"]["kid"]


@pytest.mark.parametrize("hostile", [[], "x", {"metrics": {"kid": ["0.1"] * 400}}, {"num": 10**18, "metrics": {"kid": []}}])
def test_hostile_resamples_in_a_signed_package_leave_the_figures(cli: Cli, home: Home, register: Register, hostile: Any) -> None:
    register(1, 0.3, resamples=resamples(0.3))
    register(2, 0.2, resamples={**resamples(0.2), **hostile} if isinstance(hostile, dict) else hostile)
    called = cli("--home", home.path, "--json", "models", "diff", FIRST, SECOND)
    assert called.exit_code == 0, called.stderr
    assert called.document["metrics"]["kid"] == {FIRST: 0.3, SECOND: 0.2}
    assert "report.json" in called.document["not_comparable"]["kid"]


@pytest.mark.usefixtures("models")
def test_a_page_shows_both_grids_and_is_written_where_it_is_asked_for(cli: Cli, home: Home, tmp_path: Path) -> None:
    called = cli("--home", home.path, "models", "diff", FIRST, SECOND, "-o", tmp_path / "new" / "diff.html")
    assert called.exit_code == 0, called.stderr
    assert "come closer to real ones" in " ".join(called.stdout.split())
    page = (tmp_path / "new" / "diff.html").read_text()
    assert "<h1>emoji-dit/2 draws better than emoji-dit/1</h1>" in page
    assert page.count('src="data:image/png;base64,') == 2
    assert cli("--home", home.path, "models", "diff", FIRST, SECOND, "-o", "-").stdout == page
    document = cli("--home", home.path, "--json", "models", "diff", FIRST, SECOND, "--format", "html").document
    assert Path(document["file"]) == home.reports / "emoji-dit-1-and-emoji-dit-2.html"
    assert Path(document["file"]).read_text() == page


@pytest.mark.usefixtures("models")
def test_a_model_beside_itself_is_the_same(cli: Cli, home: Home) -> None:
    shown = cli("--home", home.path, "models", "diff", FIRST, FIRST).stdout
    assert "the same package, byte for byte" in shown
    assert (
        "<h1>emoji-dit/1 and emoji-dit/1 are the same model</h1>"
        in cli("--home", home.path, "models", "diff", FIRST, FIRST, "-o", "-").stdout
    )


@pytest.mark.usefixtures("models")
def test_a_file_for_text_is_a_mistake_of_usage(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "models", "diff", FIRST, SECOND, "--format", "text", "-o", "x.txt")
    assert called.exit_code == 2
    assert not Path("x.txt").exists()


def test_a_picture_that_is_none_is_not_shown(cli: Cli, home: Home, register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save
    register(1, 0.3)
    monkeypatch.setattr(Image.Image, "save", lambda _, path: path.write_text("<svg onload='alert(1)'/>"))
    register(2, 0.2)
    monkeypatch.setattr(Image.Image, "save", save)
    page = cli("--home", home.path, "models", "diff", FIRST, SECOND, "-o", "-").stdout
    assert "emoji-dit/2 has no evaluation/samples.png that can be shown" in page
    assert "onload" not in page
