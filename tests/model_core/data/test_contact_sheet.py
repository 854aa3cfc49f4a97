"""A contact sheet shows the pictures it says it shows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_core.data.contact_sheet import write_contact_sheet
from model_core.errors import BadDataError
from tests.model_core.data.toy import toy_dataset


def test_pictures_stand_in_rows_by_label(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    write_contact_sheet(dataset, tmp_path / "sheet.png", per_label=4, columns=4)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    shown = {
        sheet[top : top + 64 : 4, 12 + 68 * column : 12 + 68 * column + 64 : 4].tobytes()
        for top in (34, 124)
        for column in range(4)
    }
    pictures = {dataset.read_image(row).tobytes(): dataset.columns["label"][row] for row in range(len(dataset))}
    assert sorted(pictures[each] for each in shown) == ["cat"] * 4 + ["dog"] * 4


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    for name in ("a.png", "b.png"):
        write_contact_sheet(dataset, tmp_path / name, split="holdout")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="no split 'test'"):
        write_contact_sheet(toy_dataset(tmp_path), tmp_path / "sheet.png", split="test")
