"""The step that checks a dataset, run with the real Great Expectations."""

import csv
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from components.ports import Metrics, Ports, StepReport, Tracking
from components.validate_data.config import Config
from components.validate_data.suite import default_suite_text, parse_suite
from governance.digest import tree_digest
from model_core.data.dataset import Dataset
from model_core.data.importing import import_dataset
from model_core.errors import BadDataError
from tests.model_core.data.toy import SIZE, change_manifest, lines, patch_bytes, picture, picture_folder, toy_dataset

# Great Expectations formats its own annotations when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PendingDeprecationWarning")


class Silent(Tracking, Metrics):
    """Takes what a step logs, and keeps nothing."""


@dataclass
class SeenProgress:
    """Keeps what a step says of how far it has come."""

    seen: list[tuple[int, int, str]] = field(default_factory=list)

    def update(self, completed: int, total: int, description: str = "", **fields: float | str) -> None:
        self.seen.append((completed, total, description))


@dataclass
class Ran:
    """A finished step: what it returned, and its outputs."""

    report: StepReport
    folder: Path
    progress: SeenProgress

    @property
    def document(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "validation/report.json").read_text())
        return found

    def failed_rows(self) -> list[Mapping[str, str]]:
        return read_rows(self.folder / "validation/failed_rows.csv")


def read_rows(path: Path) -> list[Mapping[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def validate(dataset: Path, folder: Path, **options: object) -> Ran:
    from components.validate_data.step import run

    outputs = {name: folder / name for name in ("validation", "data_docs")}
    for path in (*outputs.values(), folder / "scratch"):
        path.mkdir(parents=True, exist_ok=True)
    progress = SeenProgress()
    ports = Ports(tracking=Silent(), progress=progress, metrics=Silent(), scratch=folder / "scratch")
    return Ran(run(Config.model_validate(options), {"dataset": dataset}, outputs, ports), folder, progress)


def refused(dataset: Path, folder: Path, **options: object) -> tuple[str, list[Mapping[str, str]]]:
    """Runs the step on a bad dataset and returns its error, and the failed rows that survive in scratch."""
    with pytest.raises(BadDataError, match=r"^validation failed") as caught:
        validate(dataset, folder, **options)
    kept = folder / "scratch/validation"
    assert str(kept / "failed_rows.csv") in caught.value.hint
    assert json.loads((kept / "report.json").read_text())["success"] is False
    assert (kept / "data_docs/index.html").is_file()
    return str(caught.value), [row for row in read_rows(kept / "failed_rows.csv") if row["severity"] == "error"]


def test_a_sound_dataset_passes(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    ran = validate(dataset.folder, tmp_path / "out")
    document = ran.document
    assert document["success"] is True
    assert document["dataset_digest"] == tree_digest(dataset.folder)
    assert document["num_rows"] == 12
    assert ran.failed_rows() == []
    assert (tmp_path / "out/validation/suite.yaml").read_text() == default_suite_text()
    assert ran.report.metrics["num_failed_rows"] == 0
    assert ran.report.facts["statistics"]["items_by_split"] == {"holdout": 4, "train": 8}
    assert (12, 12, "reading media") in ran.progress.seen
    for output, names in ran.report.artifacts.items():
        assert all((tmp_path / "out" / output / name).exists() for name in names)


def test_the_same_data_give_the_same_validation(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    elsewhere = shutil.copytree(dataset.folder, tmp_path / "elsewhere/dataset")
    validate(dataset.folder, tmp_path / "one")
    validate(elsewhere, tmp_path / "two")
    assert tree_digest(tmp_path / "one/validation") == tree_digest(tmp_path / "two/validation")


def test_data_docs_need_no_network(tmp_path: Path) -> None:
    validate(toy_dataset(tmp_path).folder, tmp_path / "out")
    pages = sorted((tmp_path / "out/data_docs").rglob("*.html"))
    assert len(pages) == 4
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<script|<(link|img|iframe)\b[^>]*https?:", text), page
        assert "Content-Security-Policy" in text
    index = (tmp_path / "out/data_docs/index.html").read_text()
    links = re.findall(r'href="([^"]+)"', index)
    assert len(links) == 3
    assert all((tmp_path / "out/data_docs" / link.replace("%20", " ")).is_file() for link in links)


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    change_manifest(dataset.folder, "size_bytes", 2, 60)
    message, rows = refused(dataset.folder, tmp_path / "out")
    assert "row 2" in message
    assert dataset.columns["path"][2] in message
    assert {row["row"] for row in rows} == {"2"}
    assert {row["expectation"] for row in rows} >= {
        "Every item can be read and decoded",
        "The bytes are those that the manifest describes",
    }


def test_changed_bytes_are_named(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    shard, offset = dataset.columns["shard"][3], dataset.columns["offset"][3]
    patch_bytes(dataset.folder / shard, offset + 60, b"\xff\xfe")
    _, rows = refused(dataset.folder, tmp_path / "out")
    assert ("3", "The bytes are those that the manifest describes") in {(row["row"], row["expectation"]) for row in rows}


def test_a_missing_shard_fails_all_its_rows(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    (dataset.folder / "shards/holdout-00000.tar").unlink()
    message, rows = refused(dataset.folder, tmp_path / "out")
    assert "and 1 more" in message
    assert {int(row["row"]) for row in rows} == set(dataset.rows("holdout"))


def test_each_bad_row_is_named(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    bad = [
        ("label", "cow", "Labels are those that the dataset lists"),
        ("caption", "a\0b", "Captions hold no control characters"),
        ("caption", "x" * 1_000_000, "Captions are not longer than a text encoder can use"),
        ("sha256", "00", "Digests are SHA-256"),
        ("width", 17, "Pictures have the width that the dataset says"),
        ("split", "test", "Splits are train and holdout"),
        ("shard", "../../etc/passwd", "Every item lies in a shard of this dataset"),
        ("source", "", "Every item says where it came from"),
        ("offset", 10**12, "Every item can be read and decoded"),
    ]
    for row, (column, value, _) in enumerate(bad):
        change_manifest(dataset.folder, column, row, value)
    message, rows = refused(dataset.folder, tmp_path / "out")
    named = {(row["row"], row["expectation"]) for row in rows}
    assert named >= {(str(row), expectation) for row, (_, _, expectation) in enumerate(bad)}
    assert len(message) < 1_000
    assert all(len(row["value"]) <= 501 for row in rows)


def test_equal_and_similar_pictures_are_found(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", lines(12))
    shutil.copy(folder / "1.png", folder / "3.png")  # 1 is for training, 3 is held out
    shutil.copy(folder / "2.png", folder / "4.png")  # both are for training
    picture(5).point(lambda level: min(level + 1, 255)).save(folder / "7.png")  # both are for training
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    message, _ = refused(tmp_path / "dataset", tmp_path / "out")
    rows = read_rows(tmp_path / "out/scratch/validation/failed_rows.csv")
    found = {(row["expectation"].split(" (")[0], row["path"], row["value"], row["beside"]) for row in rows}
    assert ("No held-out picture is also a training picture", "0000004-3.png", "0000002-1.png", "") in found
    assert (
        "At most one item in a hundred has the same pixels as another of its split",
        "0000005-4.png",
        "0000003-2.png",
        "",
    ) in found
    similar = {
        (path, beside) for expectation, path, _, beside in found if expectation == "No two pictures of a split look the same"
    }
    assert similar == {("0000006-5.png", "0000008-7.png"), ("0000008-7.png", "0000006-5.png")}
    assert "2 more" not in message


def test_empty_captions_and_unknown_licences_are_warnings(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", lines(12, text="", licence="NOASSERTION"))
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    ran = validate(tmp_path / "dataset", tmp_path / "out")
    assert len(ran.report.facts["warnings"]) == 2
    assert len(ran.failed_rows()) == 24
    assert "2 warnings" in ran.report.summary


def test_where_very_many_rows_fail_all_are_named_and_pages_stay_small(tmp_path: Path) -> None:
    """Great Expectations makes its result and pages from the first rows; the file has the others too."""
    folder = picture_folder(tmp_path / "pictures", lines(12))
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    manifest = pq.read_table(tmp_path / "dataset/manifest.parquet")
    many = pa.concat_tables([manifest] * 50)
    many = many.set_column(many.column_names.index("path"), "path", pa.array([f"{row}.png" for row in range(600)]))
    many = many.set_column(many.column_names.index("licence"), "licence", pa.array(["NONE"] * 600))
    pq.write_table(many, tmp_path / "dataset/manifest.parquet")
    suite = """\
format: groundswell-suite/1
name: mine
expectations:
  - table: manifest
    meaning: Every item says under which licence it may be used
    type: expect_column_values_to_not_be_in_set
    kwargs: {column: licence, value_set: [NONE]}
    severity: warning
  - table: manifest
    meaning: No item is of the second half
    type: expect_column_values_to_be_between
    kwargs: {column: row, max_value: 299}
    severity: warning
"""
    ran = validate(tmp_path / "dataset", tmp_path / "out", suite=suite, compare_at_most=0)
    rows = ran.failed_rows()
    assert [(row["row"], row["path"]) for row in rows[:600]] == [(str(row), f"{row}.png") for row in range(600)]
    assert [(row["row"], row["value"]) for row in rows[600:]] == [(str(row), str(row)) for row in range(300, 600)]
    assert [outcome["num_failed"] for outcome in ran.document["expectations"]] == [600, 300]
    page = (tmp_path / "out/data_docs/index.html").read_text()
    assert "The first 200 of 900" in page
    (details,) = (tmp_path / "out/data_docs/validations").rglob("*.html")
    assert details.stat().st_size < 100_000


def test_a_rare_label_is_a_warning(tmp_path: Path) -> None:
    items = [{**line, "label": "rare" if place == 1 else "cat"} for place, line in enumerate(lines(24))]
    import_dataset(str(picture_folder(tmp_path / "pictures", items)), tmp_path / "dataset", size=SIZE, workers=1)
    (row,) = validate(tmp_path / "dataset", tmp_path / "out").failed_rows()
    assert (row["path"], row["value"]) == ("rare", str(1 / 23))


def test_a_dataset_without_a_holdout_fails(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", lines(12, split="train"))
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    message, _ = refused(tmp_path / "dataset", tmp_path / "out")
    assert "something held out" in message


def test_all_pictures_undecodable(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path)
    shutil.rmtree(dataset.folder / "shards")
    _, rows = refused(dataset.folder, tmp_path / "out")
    assert len({row["row"] for row in rows}) == 12


SUITE = """\
format: groundswell-suite/1
name: mine
expectations:
  - table: manifest
    meaning: Captions mention no dogs
    type: expect_column_values_to_not_match_regex
    kwargs: {column: caption, regex: number 7}
"""


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE)
    dataset = toy_dataset(tmp_path)
    _, rows = refused(dataset.folder, tmp_path / "out", suite=str(tmp_path / "mine.yaml"))
    (row,) = rows
    assert dataset.columns["caption"][int(row["row"])] == row["value"] == "picture number 7"
    assert Config(suite=str(tmp_path / "mine.yaml")) == Config(suite=SUITE), "a configuration holds what is checked"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("expect_column_values_to_not_match_regex", "expect_miracles", "no expectation 'expect_miracles'"),
        ("column: caption", "column: captoin", "cannot be run"),
        ("regex: number 7", "regxe: number 7", "wrong kwargs"),
        ("meaning:", "meening:", r"expectations\.0\.meaning"),
        ("suite/1", "suite/2", "format"),
        ("  - table", "  - [table", "not YAML"),
        ("regex: number 7", "value_set: $nothing", r"'\$nothing'"),
        ("name: mine", "name: ../../mine", "name"),
    ],
)
def test_a_wrong_suite_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BadDataError, match=message):
        validate(toy_dataset(tmp_path).folder, tmp_path / "out", suite=SUITE.replace(old, new))


def test_a_misspelt_config_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="suit"):
        Config.model_validate({"suit": "x"})
    with pytest.raises(ValidationError, match="no suite file"):
        Config(suite="nowhere.yaml")


def test_the_default_suite_is_a_suite() -> None:
    assert len(parse_suite(default_suite_text()).expectations) > 20


def test_the_default_data_pass(tmp_path: Path) -> None:
    import_dataset("openmoji", tmp_path / "dataset", categories=["flags"], size=16, workers=1)
    ran = validate(tmp_path / "dataset", tmp_path / "out")
    assert ran.document["success"] is True
    captions = Dataset.open(tmp_path / "dataset").columns["caption"]
    similar = {captions[int(row["row"])] for row in ran.failed_rows()}
    assert {"flag of Norway", "flag of Bouvet Island"} <= similar


def test_pictures_may_be_left_uncompared(tmp_path: Path) -> None:
    ran = validate(toy_dataset(tmp_path).folder, tmp_path / "out", compare_at_most=5)
    assert ran.report.facts["statistics"]["similar_pictures_searched"] is False


def test_a_caption_that_is_a_formula_stays_text(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", lines(12, text="=cmd()"))
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    suite = SUITE.replace("number 7", "cmd")
    _, rows = refused(tmp_path / "dataset", tmp_path / "out", suite=suite)
    assert {row["value"] for row in rows} == {"'=cmd()"}


def test_html_in_a_caption_stays_text(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", lines(12, text="<b onclick=x>cmd</b>"))
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    refused(tmp_path / "dataset", tmp_path / "out", suite=SUITE.replace("number 7", "cmd"))
    for page in (tmp_path / "out/data_docs").rglob("*.html"):
        assert "<b onclick" not in page.read_text()
    assert Image.open(folder / "0.png").size == (SIZE, SIZE)
