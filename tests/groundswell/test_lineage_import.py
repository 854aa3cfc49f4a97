import json
import os
from pathlib import Path

import pytest

from governance.imported_lineage import static_name
from governance.lineage import ArtifactRef, StepIdentity, run_event
from infra.home import Home
from infra.lineage import record_event
from infra.tables import artifacts
from tests.foreign_events import DBT, SPARK, dataset, dataset_event, foreign_event, job_event, write_lines
from tests.groundswell.conftest import Cli

RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
DATA, MODEL = ArtifactRef(kind="dataset", digest="d" * 64), ArtifactRef(kind="model", digest="e" * 64)
STEP = StepIdentity(run_id=RUN, pipeline="training", step="train_dit")


@pytest.fixture
def trained(home: Home) -> Home:
    """A home in which a model was made from a dataset."""
    with home.database.unit_of_work() as uow:
        for ref in (DATA, MODEL):
            row = {"digest": ref.digest, "kind": ref.kind, "location": "gone", "facts": "{}", "created": uow.time}
            uow.connection.execute(artifacts.insert().values(row))
            uow.append(f"{ref.kind}.imported", ref.subject, {})
        record_event(uow, run_event("COMPLETE", STEP, time=uow.time, inputs=[DATA], outputs=[MODEL]))
    return home


def test_what_was_imported_is_joined_to_our_lineage_and_marked(cli: Cli, trained: Home, tmp_path: Path) -> None:
    ours = dataset(DATA.subject, "groundswell")
    claim = run_event("RUNNING", STEP, time="2026-11-22T20:43:57Z", producer=SPARK) | {"inputs": [dataset("unheard of")]}
    file = write_lines(tmp_path / "events", [foreign_event(inputs=[dataset("raw")], outputs=[ours]), claim])
    called = cli("--home", trained.path, "lineage", "import", file)
    assert called.exit_code == 0, called.stderr
    assert "2 events imported" in called.stdout
    assert SPARK in called.stdout

    report = cli("--home", trained.path, "--json", "lineage", MODEL.subject, "--format", "json").document
    by_subject = {node["subject"]: node["imported_from"] for node in report["nodes"]}
    crop = f"step:{foreign_event()['run']['runId']}/spark://cluster#crop_pictures"
    assert by_subject == {
        **dict.fromkeys((DATA.subject, MODEL.subject, STEP.subject), ""),
        **dict.fromkeys((crop, "external:s3://lake#raw", "external:s3://lake#unheard of"), SPARK),
    }
    assert {(edge["source"], edge["target"]): edge["imported_from"] for edge in report["edges"]} == {
        (DATA.subject, STEP.subject): "",
        (STEP.subject, MODEL.subject): "",
        ("external:s3://lake#raw", crop): SPARK,
        (crop, DATA.subject): SPARK,
        ("external:s3://lake#unheard of", STEP.subject): SPARK,
    }
    assert {one["producer"] for one in report["imported"]} == {SPARK}
    assert "lineage.imported" in {entry["action"] for entry in report["ledger"]["entries"]}
    assert report["ledger"]["state"] == "verified"

    page = cli("--home", trained.path, "lineage", MODEL.subject, "-o", "-").stdout
    assert page.count(f"imported from {SPARK}") > 3
    assert cli("--home", trained.path, "lineage", "external:s3://lake#raw", "--format", "json").exit_code == 0
    events = cli("--home", trained.path, "lineage", MODEL.subject, "--format", "openlineage").stdout.splitlines()
    marked = ["groundswell_import" in json.loads(event)["run"]["facets"] for event in events]
    assert marked == [False, True, True]


def test_static_lineage_is_joined_and_shown_as_of_no_run(cli: Cli, trained: Home, tmp_path: Path) -> None:
    fields = {"_producer": DBT, "_schemaURL": "https://x.example/s.json", "fields": [{"name": "path"}, {"name": "caption"}]}
    odd = {"_producer": DBT, "_schemaURL": "https://x.example/d.json", "description": 7}
    ours = {**dataset(DATA.subject, "groundswell"), "facets": {"schema": fields, "documentation": odd}}
    events = [
        job_event("models.tiles", inputs=[dataset("raw")], outputs=[dataset(DATA.subject, "groundswell")]),
        dataset_event(ours),
        dataset_event(dataset("lonely")),
    ]
    called = cli("--home", trained.path, "lineage", "import", write_lines(tmp_path / "events", events))
    assert "3 events imported" in called.stdout, called.stderr
    report = cli("--home", trained.path, "--json", "lineage", MODEL.subject, "--format", "json").document
    job = f"step:{static_name('dbt#models.tiles')}/dbt#models.tiles"
    nodes = {node["subject"]: node for node in report["nodes"]}
    assert (nodes[job]["title"], nodes[job]["imported_from"]) == ("models.tiles", DBT)
    facts = {fact["label"]: fact["value"] for fact in nodes[job]["facts"]}
    assert (facts["Job"], facts["Run"]) == ("dbt#models.tiles", "none: it is static lineage")
    assert nodes[DATA.subject]["imported_from"] == ""
    facts = {fact["label"]: fact["value"] for fact in nodes[DATA.subject]["facts"]}
    assert facts["Described as a dataset"].endswith(f"says {DBT}")
    assert facts["Fields"] == "path, caption"
    assert "Description" not in facts
    assert [(one["event_type"], one["run_id"]) for one in report["imported"]] == [("JOB", ""), ("DATASET", "")]
    assert report["open_questions"] == [q for q in report["open_questions"] if "models.tiles" not in q]
    page = cli("--home", trained.path, "lineage", MODEL.subject, "-o", "-").stdout
    assert page.count("of no run: static lineage") == 2
    alone = cli("--home", trained.path, "--json", "lineage", "external:s3://lake#lonely", "--format", "json").document
    assert [(node["title"], node["imported_from"]) for node in alone["nodes"]] == [("lonely", DBT)]
    lines = cli("--home", trained.path, "lineage", MODEL.subject, "--format", "openlineage").stdout.splitlines()
    handed_on = [json.loads(line) for line in lines if "groundswell_import" in line]
    assert [sorted(event.keys() & {"run", "job", "dataset"}) for event in handed_on] == [["job"], ["dataset"]]
    bundle = cli("--home", trained.path, "bundle", "export", MODEL.subject, "-o", tmp_path / "evidence.zip")
    assert bundle.exit_code == 0, bundle.stderr
    key = trained.keys.public_path("log")
    assert cli("bundle", "verify", tmp_path / "evidence.zip", "--key", key).exit_code == 0


def test_what_others_say_is_no_word_of_what_a_model_was_trained_on(cli: Cli, trained: Home, tmp_path: Path) -> None:
    stolen = ArtifactRef(kind="dataset", digest="f" * 64)
    claim = run_event("COMPLETE", STEP, time="2026-11-22T20:43:57Z", inputs=[stolen], outputs=[MODEL])  # as ours are, to a letter
    cli("--home", trained.path, "lineage", "import", write_lines(tmp_path / "events", [claim]))
    report = cli("--home", trained.path, "--json", "lineage", MODEL.subject, "--format", "json").document
    assert [(source["digest"], source["imported_from"]) for source in report["data"]] == [
        (DATA.digest, ""),
        (stolen.digest, claim["producer"]),
    ]
    nodes = {node["subject"]: node["imported_from"] for node in report["nodes"]}
    assert (nodes[stolen.subject], nodes[DATA.subject]) == (claim["producer"], "")
    assert len([edge for edge in report["edges"] if edge["imported_from"]]) == 1


def test_the_same_file_again_changes_nothing_and_says_so(cli: Cli, home: Home, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "events", [foreign_event(n) for n in range(3)])
    first = cli("--home", home.path, "--json", "lineage", "import", file).document["imported"]
    assert [(one["num_new"], one["already_imported"], one["producers"]) for one in first] == [(3, False, {SPARK: 3})]
    assert "was imported before: nothing was changed" in cli("--home", home.path, "lineage", "import", file).stdout
    again = cli("--home", home.path, "lineage", "--json", "import", file).document["imported"]
    assert [(one["num_new"], one["already_imported"], one["entry"]) for one in again] == [(0, True, None)]
    part = write_lines(tmp_path / "part", [foreign_event(1)])
    assert "no event that is not on record" in cli("--home", home.path, "lineage", "import", part).stdout


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "missing", "text"])
def test_what_is_no_file_of_events_is_bad_input(cli: Cli, home: Home, kind: str) -> None:
    path = Path("events")
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/etc/passwd"),
        "missing": lambda: None,
        "text": lambda: path.write_text("hello"),
    }[kind]()
    called = cli("--home", home.path, "lineage", "import", path)
    assert called.exit_code == 3
    error, hint = called.stderr.splitlines()
    assert error.startswith("error: events")
    assert hint.startswith("hint: ")


def test_a_word_that_is_also_a_path_is_a_verb_only_with_an_argument(cli: Cli, home: Home, tmp_path: Path) -> None:
    assert "missing argument 'FILE" in cli("--home", home.path, "lineage", "import").stderr
    assert "groundswell lineage import --help" in cli("lineage", "import", "--nothing", "x").stderr
    Path("import").mkdir()
    assert "is not recorded" in cli("--home", home.path, "lineage", "import").stderr
    assert cli("--home", home.path, "lineage", "import", write_lines(tmp_path / "x", [foreign_event()])).exit_code == 0
    assert "  import  " in cli("lineage", "--help").stdout


def test_a_page_stays_readable_however_often_a_run_was_reported(cli: Cli, trained: Home, tmp_path: Path) -> None:
    event = foreign_event(inputs=[dataset("raw")], outputs=[dataset(DATA.subject, "groundswell")])
    running = [{**event, "eventType": "RUNNING", "eventTime": f"2026-11-20T08:{n // 60:02}:{n % 60:02}Z"} for n in range(300)]
    cli("--home", trained.path, "lineage", "import", write_lines(tmp_path / "events", [*running, event]))
    page = cli("--home", trained.path, "lineage", MODEL.subject, "-o", "-").stdout
    assert page.count("<strong>RUNNING</strong>") == 100
    assert "201 more" in page
    report = cli("--home", trained.path, "--json", "lineage", MODEL.subject, "--format", "json").document
    assert len(report["imported"]) == 301
    assert [entry["what"] for entry in report["timeline"] if entry["who"] == SPARK] == ["crop_pictures: complete"]
