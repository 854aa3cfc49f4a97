"""Everyday sentences, where nothing comes of them."""

from pathlib import Path

import pytest

from infra.home import Home
from pipelines.generation import GenerateOutcome
from pipelines.memorisation import MemorisationCheck
from tests.groundswell.uses.conftest import Use


def test_a_sentence_whose_sample_is_withheld_is_told_and_the_others_go_on(
    use: Use, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = MemorisationCheck(mode="withhold", state="checked", reason="", near_copies=({"position": 0},))
    nothing = GenerateOutcome(
        run_id="r", model_version="m/1", files=(), grid=tmp_path / "grid.png", wall_s=1.0, memorisation=check
    )
    asked = []
    monkeypatch.setattr("pipelines.generation.generate", lambda _, request, **__: asked.append(request.prompt) or nothing)
    (tmp_path / "said.csv").write_text("phrase,subject\na cat pls,cat\nsome frog,frog\n")
    called = use("sentence", "--home", home.path, "m/1", tmp_path / "said.csv", "--out", tmp_path / "out")
    assert called.exit_code == 5
    assert asked == ["a cat pls", "some frog"]
    assert (tmp_path / "out" / "understood.csv").read_text().count("withheld by the guardrails") == 2
