import json

import pytest

from benchmarks.fashion_classifier import main
from model_core.evaluation.classifier import load_classifier


@pytest.fixture
def made(data, tmp_path):
    out = tmp_path / "classifier"
    assert main(["--data", str(data), "--out", str(out), "--steps", "15", "--min-accuracy", "0.5"]) == 0
    return out


def test_trains_saves_and_describes_a_classifier(made, data, capsys):
    card = json.loads((made / "card.json").read_text(encoding="utf-8"))
    assert card["digest"] == load_classifier(made).digest
    assert card["made"]["num_steps"] == 15
    assert set(card["bounds_by_num_pictures"]) == {"40"}
    assert main(["--data", str(data), "--out", str(made), "--check"]) == 0
    assert "as its card says" in capsys.readouterr().out


def test_check_finds_a_card_of_another_classifier(made, data, capsys):
    card = json.loads((made / "card.json").read_text(encoding="utf-8"))
    (made / "card.json").write_text(json.dumps({**card, "digest": "0" * 64}), encoding="utf-8")
    assert main(["--data", str(data), "--out", str(made), "--check"]) == 3
    assert "another digest" in capsys.readouterr().err


def test_keeps_no_classifier_that_is_not_good_enough(data, tmp_path, capsys):
    out = tmp_path / "classifier"
    assert main(["--data", str(data), "--out", str(out), "--steps", "1", "--min-accuracy", "1.01"]) == 3
    assert "below 1.01" in capsys.readouterr().err
    assert not out.exists()


def test_missing_data_are_one_line_and_a_hint(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "missing"), "--out", str(tmp_path / "out")]) == 3
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
