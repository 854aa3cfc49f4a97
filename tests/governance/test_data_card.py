"""The data card says what is on record, and no more."""

import dataclasses

import pytest

from governance.data_card import data_card
from governance.lineage import Edge
from governance.lineage_report.model import DataSource, Fact, FactTable, LedgerStatus, ReportContent

DIGEST = "d" * 64
SUBJECT = f"dataset:{DIGEST}"
SOURCE = DataSource(
    subject=SUBJECT,
    digest=DIGEST,
    name="pictures",
    importer="folder",
    num_items=1200,
    num_train=1000,
    num_holdout=200,
    labels=("cat", "dog"),
    licences=("CC0-1.0", "CC-BY-SA-4.0"),
    attribution="Graphics by somebody",
    sources=("a shop's archive",),
)
UNKNOWN = DataSource(
    subject=SUBJECT,
    digest=DIGEST,
    name=None,
    importer=None,
    num_items=None,
    num_train=None,
    num_holdout=None,
    labels=(),
    licences=(),
    attribution=None,
    sources=(),
)


def report(*sources, **changes):
    empty = {field.name: () for field in dataclasses.fields(ReportContent)}
    ledger = LedgerStatus(state="empty", message="", size=0, root_hash="", last_time=None, entries=())
    texts = {"subject": SUBJECT, "kind": "dataset", "title": "pictures", "highlight": SUBJECT, "ledger": ledger}
    return ReportContent(**{**empty, **texts, "data": sources, **changes})


def rows(card):
    return dict(line.strip("| ").split(" | ", 1) for line in card.splitlines() if line.startswith("|") and " | " in line)


def test_it_says_how_much_whose_and_on_which_terms():
    found = rows(data_card(report(SOURCE)))
    assert found["items"] == "1,200"
    assert (found["of these to train on"], found["held out, for evaluation only"]) == ("1,000", "200")
    assert found["attribution"] == "Graphics by somebody"
    assert DIGEST in found["digest (SHA-256)"]
    assert all(licence in found["licences"].replace("\\", "") for licence in SOURCE.licences)


def test_what_is_not_on_record_is_unknown():
    found = rows(data_card(report(UNKNOWN)))
    del found["what"], found["digest (SHA-256)"]
    assert set(found.values()) == {"unknown"}


def test_the_checks_of_its_own_validation_are_told():
    mine, other = "step:r/validate_data", "step:r/encode_latents"
    edges = (Edge(SUBJECT, mine), Edge(mine, "validation:v"), Edge(SUBJECT, other), Edge(other, "latents:l"))
    tables = tuple(
        FactTable(title="x", subject=step, facts=(Fact(label=label, value="3"),))
        for step, label in ((mine, "rows"), (other, "psnr"))
    )
    found = rows(data_card(report(SOURCE, edges=edges, metrics=tables)))
    assert found["check: rows"] == "3"
    assert "check: psnr" not in found


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\n| b | c |", "[x](javascript:y)", "# title"])
def test_markup_in_records_shows_as_written(text):
    card = data_card(report(dataclasses.replace(SOURCE, name=text, attribution=text)))
    assert "<script" not in card.replace("\\<", "")
    assert len(card.splitlines()) == len(data_card(report(SOURCE)).splitlines())


def test_no_dataset_is_said():
    assert "No dataset is on record" in data_card(report())
