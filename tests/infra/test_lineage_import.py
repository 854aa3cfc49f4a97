import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from governance.errors import BadRecordError, IntegrityError
from governance.imported_lineage import static_name
from governance.lineage import ArtifactRef, StepIdentity, run_event
from infra import lineage_import
from infra.database import Database
from infra.keys import Keys
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import load_events, load_imported, record_event, upstream
from infra.lineage_import import import_events
from infra.tables import lineage_edges, lineage_events, withdrawals
from infra.withdrawal_reach import withdrawals_reaching
from tests.foreign_events import AIRFLOW, DBT, SPARK, dataset, dataset_event, foreign_event, job_event, write_lines

RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
CHAIN = [foreign_event(n, inputs=[dataset(f"d{n}")], outputs=[dataset(f"d{n + 1}")]) for n in range(5)]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as database:
        yield database


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.create(tmp_path / "keys")


def num_rows(db: Database) -> tuple[int, int, int]:
    with db.read() as connection:
        events, edges = (
            connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (lineage_events, lineage_edges)
        )
    return events, edges, len(list(iter_entries(db)))


@pytest.mark.parametrize("form", ["lines", "array", "indented array", "one after another", "byte order mark", "no last newline"])
def test_every_form_of_a_file_is_read(db: Database, keys: Keys, tmp_path: Path, form: str) -> None:
    text = {
        "lines": "\n\n".join(map(json.dumps, CHAIN)) + "\n",
        "array": json.dumps(CHAIN),
        "indented array": f"\n {json.dumps(CHAIN, indent=2)}\n",
        "one after another": "\n".join(json.dumps(event, indent=1) for event in CHAIN),
        "byte order mark": "\ufeff" + "\r\n".join(map(json.dumps, CHAIN)),
        "no last newline": "\n".join(map(json.dumps, CHAIN)),
    }[form]
    file = tmp_path / "events"
    file.write_text(text, encoding="utf-8")
    outcome = import_events(db, file, actor="id-1")
    assert (outcome.num_events, outcome.num_new, outcome.producers) == (5, 5, {SPARK: 5})
    with db.read() as connection:
        assert [event for event, _ in load_imported(connection, [event["run"]["runId"] for event in CHAIN])] == CHAIN
        assert len(upstream(connection, "external:s3://lake#d5").edges) == 10
        assert load_events(connection) == []  # none of them is ours
    assert verify_ledger(db, keys.log_public_key()).problems == ()


def test_one_entry_commits_to_the_file_and_the_same_file_changes_nothing(db: Database, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "events", [*CHAIN, foreign_event(9, producer=AIRFLOW)])
    first = import_events(db, file, actor="id-1")
    entries = list(iter_entries(db))
    assert [(entry.action, entry.subject, entry.actor) for entry in entries] == [
        ("lineage.imported", f"lineage-import:{first.sha256}", "id-1")
    ]
    details = entries[0].details
    assert (details["num_events"], details["producers"]) == (6, {SPARK: 5, AIRFLOW: 1})
    assert details["lineage"]["num_events"] == 6
    before = num_rows(db)
    again = import_events(db, file, actor="id-1")
    assert (again.is_repeated, again.num_new, again.index) == (True, 0, None)
    assert num_rows(db) == before


def test_a_file_that_holds_more_than_one_before_it_adds_what_is_new(db: Database, keys: Keys, tmp_path: Path) -> None:
    import_events(db, write_lines(tmp_path / "monday", CHAIN[:3]), actor="id-1")
    outcome = import_events(db, write_lines(tmp_path / "tuesday", [*CHAIN, CHAIN[4]]), actor="id-1")
    assert (outcome.num_events, outcome.num_new) == (6, 2)
    before = num_rows(db)
    assert import_events(db, write_lines(tmp_path / "part", CHAIN[1:3]), actor="id-1").index is None
    assert num_rows(db) == before
    assert verify_ledger(db, keys.log_public_key()).problems == ()


MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "holds no event"),
    "space": (b" \n\t\r\n", "holds no event"),
    "no events": (b"[]", "holds no event"),
    "no JSON": (b"eventType: COMPLETE", "line 1: no event begins here"),
    "a number": (b"7", "line 1: no event begins here"),
    "cut off": (json.dumps(CHAIN[0]).encode()[:-40], "line 1: it is no JSON"),
    "array cut off": (json.dumps(CHAIN).encode()[:-1], "the array has no end"),
    "no comma": (b"[" + b"\n".join(json.dumps(event).encode() for event in CHAIN) + b"]", "line 2: a comma is missing"),
    "more after the array": (json.dumps(CHAIN).encode() + b"\n{}", "line 2: there is more"),
    "bad line": (json.dumps(CHAIN[0]).encode() + b'\n\n{"a" 1}\n' + b" " * 3_000_000, "line 3: it is no JSON"),
    "a list in a list": (b"[[1]]", "line 1: no event begins here"),
    "NaN": (json.dumps(foreign_event(x=float("nan"))).encode(), "line 1: it holds NaN"),
    "infinite": (json.dumps(foreign_event()).encode()[:-1] + b', "x": 1e999}', "line 1: it holds a number that is not finite"),
    "long number": (
        json.dumps(foreign_event()).encode()[:-1] + b', "x": ' + b"1" * 9000 + b"}",
        "line 1: it holds a number",
    ),
    "key twice": (b'{"eventType": "START", "eventType": "FAIL"}', "line 1: an object in it names a key twice"),
    "deep": (b'{"a": ' + b"[" * 900_000, "line 1: it is nested too deeply"),
    "no UTF-8": (json.dumps(CHAIN[0]).encode() + b"\xff\xfe", "it is no UTF-8 text"),
    "binary": (bytes(range(256)) * 999, "it is no UTF-8 text"),
    "half a character": (json.dumps(foreign_event(x="\ud800")).encode(), "line 1: it holds half of a character"),
    "a long line": (json.dumps(foreign_event(x="y" * (1 << 20))).encode(), "line 1: an event is larger than 1 MiB"),
    "a long list": (b'{"a": [' + b"1, " * 700_000, "line 1: an event is larger than 1 MiB"),
    "no run event": (
        json.dumps(CHAIN[0]).encode() + b'\n{"eventTime": "now"}',
        "line 2: it is an event of no run, no job and no dataset",
    ),
    "wrong type": (json.dumps(foreign_event(eventTime=5)).encode(), "line 1: eventTime: "),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_file_that_holds_anything_else_is_refused_whole(db: Database, tmp_path: Path, name: str) -> None:
    data, problem = MALFORMED[name]
    file = tmp_path / "events"
    file.write_bytes(data)
    with pytest.raises(BadRecordError) as refused:
        import_events(db, file, actor="id-1")
    assert problem in refused.value.diagnosis
    assert refused.value.hint
    assert "\n" not in refused.value.diagnosis
    assert num_rows(db) == (0, 0, 0)


@pytest.mark.parametrize(
    ("states", "problem"),
    [
        (["START", "START"], "line 2: another event says already that run .* began"),
        (["START", "RUNNING", "COMPLETE", "FAIL"], "line 4: another event says already that run .* ended"),
        (["ABORT", "COMPLETE"], "line 2: another event says already"),
    ],
)
def test_a_run_begins_and_ends_once(db: Database, tmp_path: Path, states: list[str], problem: str) -> None:
    events = [foreign_event(eventType=state, eventTime=f"2026-11-20T08:15:3{n}Z") for n, state in enumerate(states)]
    with pytest.raises(BadRecordError, match=problem):
        import_events(db, write_lines(tmp_path / "events", events), actor="id-1")
    assert num_rows(db) == (0, 0, 0)
    import_events(db, write_lines(tmp_path / "sound", events[:-1]), actor="id-1")
    with pytest.raises(BadRecordError, match="line 1: another event says already"):
        import_events(db, write_lines(tmp_path / "later", events[-1:]), actor="id-1")


STATIC = [
    job_event("models.tiles", inputs=[dataset("raw")], outputs=[dataset("tiles")]),
    dataset_event(dataset("tiles")),
    dataset_event(dataset("lonely")),
]


def test_static_lineage_is_imported_as_runs_are_and_may_be_said_again(db: Database, keys: Keys, tmp_path: Path) -> None:
    outcome = import_events(db, write_lines(tmp_path / "events", [*STATIC, CHAIN[0]]), actor="id-1")
    assert (outcome.num_events, outcome.num_new, outcome.producers) == (4, 4, {DBT: 3, SPARK: 1})
    later = [{**event, "eventTime": "2026-12-01T00:00:00Z"} for event in STATIC]
    assert import_events(db, write_lines(tmp_path / "later", [*STATIC, *later]), actor="id-1").num_new == 3
    with db.read() as connection:
        graph = upstream(connection, "external:s3://lake#tiles")
        names = {static_name("dbt#models.tiles"), static_name("external:s3://lake#lonely")}
        assert [event for event, _ in load_imported(connection, names)] == [STATIC[0], STATIC[2], later[0], later[2]]
    assert graph.nodes >= {"external:s3://lake#raw", f"step:{static_name('dbt#models.tiles')}/dbt#models.tiles"}
    assert verify_ledger(db, keys.log_public_key()).problems == ()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE gs_lineage_events SET event_type = 'JOB' WHERE event_type = 'DATASET'")
    assert not verify_ledger(db, keys.log_public_key()).ok


def test_an_import_tells_nothing_of_the_states_of_our_own_runs(db: Database, keys: Keys, tmp_path: Path) -> None:
    identity = StepIdentity(run_id=RUN, pipeline="training", step="train_dit")
    made = ArtifactRef(kind="model", digest="b" * 64)
    own = run_event("COMPLETE", identity, time="2026-11-22T20:43:57Z", outputs=[made])
    with db.unit_of_work() as uow:
        record_event(uow, own)
    claim = {**own, "eventType": "FAIL", "producer": SPARK, "inputs": [dataset("stolen")]}
    assert import_events(db, write_lines(tmp_path / "events", [own, claim][1:]), actor="id-1").num_new == 1
    with db.read() as connection:
        assert load_events(connection, run_ids=[RUN]) == [own]
        assert [event["producer"] for event, _ in load_imported(connection, [RUN])] == [SPARK]
        assert "external:s3://lake#stolen" in upstream(connection, made.subject).nodes
    assert verify_ledger(db, keys.log_public_key()).problems == ()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "link to nothing", "missing", "device"])
def test_only_a_regular_file_is_opened(db: Database, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "events"
    target = write_lines(tmp_path / "target", CHAIN)
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(target),
        "link to nothing": lambda: path.symlink_to("nowhere"),
        "missing": lambda: None,
        "device": lambda: None,
    }[kind]()
    with pytest.raises((BadRecordError, FileNotFoundError)):
        import_events(db, Path("/dev/zero") if kind == "device" else path, actor="id-1")
    assert num_rows(db) == (0, 0, 0)


def test_a_file_that_is_changed_while_it_is_read_is_refused(db: Database, tmp_path: Path, monkeypatch: Any) -> None:
    file = write_lines(tmp_path / "events", CHAIN)
    seen = lineage_import._look_through

    def look_and_change(*args: Any) -> Any:
        found = seen(*args)
        write_lines(file, reversed(CHAIN))
        return found

    monkeypatch.setattr(lineage_import, "_look_through", look_and_change)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        import_events(db, file, actor="id-1")
    assert num_rows(db) == (0, 0, 0)


def test_a_large_file_is_not_held_in_memory(db: Database, tmp_path: Path) -> None:
    facet = {"_producer": SPARK, "_schemaURL": "https://x.example/y", "text": "x" * 20_000}
    events = [foreign_event(n, run={"runId": foreign_event(n)["run"]["runId"], "facets": {"x": facet}}) for n in range(1200)]
    file = tmp_path / "events"
    file.write_text(json.dumps(events))
    assert file.stat().st_size > 24_000_000
    del events
    tracemalloc.start()
    try:
        import_events(db, file, actor="id-1")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gs_lineage_events SET event = replace(event, 'd1', 'd9') WHERE id = 2",
        "UPDATE gs_lineage_events SET imported = NULL WHERE id = 2",
        "UPDATE gs_lineage_events SET imported = NULL",
        "UPDATE gs_lineage_events SET time = '2026-11-20T07:15:31.000000Z' WHERE id = 2",
        "DELETE FROM gs_lineage_edges WHERE event_id = 5",
        "INSERT INTO gs_lineage_events SELECT 9, 'r', 'j', event_type, time, event, imported FROM gs_lineage_events WHERE id = 2",
    ],
)
def test_a_change_of_imported_events_is_found(db: Database, keys: Keys, tmp_path: Path, statement: str) -> None:
    import_events(db, write_lines(tmp_path / "events", CHAIN), actor="id-1")
    with db.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert not verify_ledger(db, keys.log_public_key()).ok


def test_a_withdrawal_follows_what_others_say_was_made_from_the_data(db: Database, tmp_path: Path) -> None:
    ours = [dataset(f"dataset:{letter * 64}", "groundswell") for letter in "ab"]
    events = [
        foreign_event(1, inputs=[ours[0]], outputs=[dataset("t")]),
        foreign_event(2, inputs=[dataset("t")], outputs=[ours[1]]),
    ]
    import_events(db, write_lines(tmp_path / "events", events), actor="id-1")
    with db.unit_of_work() as uow:
        values = {"dataset": "a" * 64, "item": "1" * 64, "actor": "id-1", "created": uow.time}
        uow.connection.execute(insert(withdrawals).values(**values, reason_commitment=uow.commit_to("asked")))
    with db.read() as connection:
        assert [one.dataset for one in withdrawals_reaching(connection, f"dataset:{'b' * 64}")] == ["a" * 64]
