import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.model_records import plain_markdown, show_number
from tests.infra.package_inputs import CODE_DIGESTS, make_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path)


def test_card_has_what_a_reader_asks_for(package: Path) -> None:
    card = (package / "MODEL_CARD.md").read_text()
    headings = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert headings == [
        "Intended use",
        "Training data",
        "How it was made",
        "Evaluation",
        "Limits and risks",
        "How to verify",
    ]


def test_every_figure_comes_from_the_records(package: Path) -> None:
    card = (package / "MODEL_CARD.md").read_text()
    assert "| kid | 0.0731 | 0.061 to 0.0853 | real 0.0004, noise 0.52 |" in card
    assert "real 0.975, chance 0.5" in card
    assert "5 items (1 holdout, 4 train)" in card
    assert "280 parameters" in card
    config = json.loads((package / "config.json").read_text())
    for digest in (config["codec_digest"], config["training_data"]["dataset_digest"], *CODE_DIGESTS.values()):
        assert digest in card


def test_licence_and_attribution_travel_with_the_model(package: Path) -> None:
    card = (package / "MODEL_CARD.md").read_text()
    assert "| CC-BY-SA-4.0 | 5 |" in card
    assert "Attribution: Graphics by the OpenMoji project \\| CC BY-SA 4.0" in card


def test_tables_are_whole(package: Path) -> None:
    for block in (package / "MODEL_CARD.md").read_text().split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


@given(st.text())
def test_text_of_others_stays_text(text: str) -> None:
    shown = plain_markdown(text)
    assert "\n" not in shown
    assert not any(character in shown.replace(f"\\{character}", "") for character in "<>|`*#[]!")


@pytest.mark.parametrize(("value", "shown"), [(1930000, "1,930,000"), (0.07312345, "0.07312"), (3.0, "3"), (1e-7, "1e-07")])
def test_numbers_read_well(value: float, shown: str) -> None:
    assert show_number(value) == shown
