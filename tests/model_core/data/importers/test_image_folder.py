"""Folders of pictures, made by people and by those who mean harm."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model_core.data.dataset import Dataset
from model_core.data.importing import import_dataset
from model_core.errors import BadDataError
from tests.model_core.data.test_media import png_claiming
from tests.model_core.data.toy import SIZE, lines, picture, picture_folder


def imported(folder: Path, **options: Any) -> Dataset:
    import_dataset(str(folder), folder.parent / "dataset", size=SIZE, workers=1, **options)
    return Dataset.open(folder.parent / "dataset")


def refused(folder: Path) -> str:
    with pytest.raises(BadDataError) as caught:
        imported(folder)
    assert not (folder.parent / "dataset").exists()
    return str(caught.value)


def test_all_that_a_line_says_is_kept(tmp_path: Path) -> None:
    folder = picture_folder(
        tmp_path / "in", [{"file_name": "a b.png", "text": " a cat ", "label": "cat", "licence": "MIT", "source": "me"}]
    )
    columns = imported(folder).columns
    assert {key: columns[key][0] for key in ("path", "caption", "label", "licence", "source")} == {
        "path": "0000001-a-b.png",
        "caption": "a cat",
        "label": "cat",
        "licence": "MIT",
        "source": "me",
    }


def test_an_unstated_licence_is_not_invented(tmp_path: Path) -> None:
    dataset = imported(picture_folder(tmp_path / "in", [{"file_name": "a.png"}]))
    assert (dataset.info.licences, dataset.columns["source"], dataset.labels) == (("NOASSERTION",), ["a.png"], [])


def test_some_labels_only(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "in", lines())
    assert set(imported(folder, categories=["dog"]).columns["label"]) == {"dog"}
    with pytest.raises(BadDataError, match="no label 'cow'"):
        import_dataset(str(folder), tmp_path / "other", categories=["cow"])


def test_other_formats_sizes_and_folders(tmp_path: Path) -> None:
    names = ["sub/a.jpg", "b.webp", "c.gif"]
    (tmp_path / "in/sub").mkdir(parents=True)
    for name in names:
        picture(0, size=50).resize((70, 50)).save(tmp_path / "in" / name)
    dataset = imported(picture_folder(tmp_path / "in", [{"file_name": name} for name in names], write=False))
    assert dataset.images(range(3)).shape == (3, SIZE, SIZE, 3)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b.png", "..\\b.png", "C:/b.png", "", ".", ".."])
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = picture_folder(tmp_path / "in", [{"file_name": "a.png"}])
    picture_folder(folder, [{"file_name": "a.png"}, {"file_name": name}], write=False)
    assert "metadata.jsonl line 2" in refused(folder)


def test_links_are_refused(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "in", [{"file_name": "a.png"}])
    (folder / "b.png").symlink_to(folder / "a.png")
    (folder / "d").symlink_to(folder)
    for name in ("b.png", "d/a.png"):
        picture_folder(folder, [{"file_name": name}], write=False)
        assert "symbolic link" in refused(folder)
    (folder / "metadata.jsonl").rename(tmp_path / "m")
    (folder / "metadata.jsonl").symlink_to(tmp_path / "m")
    assert "symbolic link" in refused(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file_name": "a.png", "text": "x\0y"}, "line 1: text holds the character U\\+0000 at place 1"),
        ({"file_name": "a.png", "text": "x" * 1_000_000}, "line 1 is longer than"),
        ({"file_name": "a.png", "text": "x" * 2_001}, "line 1: text has 2,001 characters"),
        ({"file_name": "a.png", "labels": "x"}, "line 1: labels: Extra"),
        ({"file_name": "a.png", "split": "test"}, "line 1: split"),
        ({"file_name": "a.png", "licence": "x\ny"}, "line 1: licence"),
        ({"file_name": "missing.png"}, "line 1: there is no file 'missing.png'"),
        ({"text": "x"}, "line 1: file_name: Field required"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    folder = picture_folder(tmp_path / "in", [{"file_name": "a.png"}])
    picture_folder(folder, [line], write=False)
    with pytest.raises(BadDataError, match=message):
        imported(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", "\xff", '{"file_name": "a.png"', '{"file_name": "a.png", "text": "\\ud800"}']
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    folder = picture_folder(tmp_path / "in", [{"file_name": "a.png"}])
    (folder / "metadata.jsonl").write_bytes(text.encode("latin-1"))
    assert "metadata.jsonl line 1" in refused(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "empty" in refused(picture_folder(tmp_path / "in", []))


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    assert "lines 1 and 2" in refused(picture_folder(tmp_path / "in", [{"file_name": "a.png"}, {"file_name": "a.png"}]))


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "in", lines(3))
    path = folder / "1.png"
    path.write_bytes(path.read_bytes()[:100])
    assert refused(folder).startswith("1.png")


def test_a_bomb_is_named(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "in", lines(3))
    (folder / "1.png").write_bytes(png_claiming(10_000, 8_000))
    assert refused(folder).startswith("1.png unpacks to 10000x8000")


def test_an_error_from_another_process_keeps_its_hint(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "in", lines(220))
    (folder / "150.png").write_text("not a picture")
    with pytest.raises(BadDataError, match=r"150\.png is not a picture") as caught:
        import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=2)
    assert caught.value.hint


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    halves = Image.new("RGB", (64, 64), "white")
    halves.paste("black", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 3
    halves.save(folder / "a.jpg", exif=exif)
    pixels = imported(picture_folder(folder, [{"file_name": "a.jpg"}], write=False)).read_image(0)
    assert pixels[0].mean() > 200
    assert pixels[-1].mean() < 50
