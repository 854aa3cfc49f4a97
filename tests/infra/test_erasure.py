"""Erasure: the text is gone from database and file, the ledger says so and verifies."""

import html
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import make_url

from governance.canonical import canonical_text
from governance.errors import BadRecordError, RefusedError, UnknownSubjectError
from governance.identity import Role
from infra.database import Database
from infra.erasure import commitments_of_identity, commitments_of_run, erase
from infra.errors import BadSettingError
from infra.identities import create_identity, initialise_home, list_identities
from infra.keys import Keys
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.tables import commitments, runs

PROMPT = "a portrait of somebody who asked to be forgotten"


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


@pytest.fixture
def db(database_url):
    with Database.open(database_url) as database:
        yield database


@pytest.fixture
def admin(db, keys):
    return initialise_home(db, keys, admin_name="Ada Lovelace").identity_id


@pytest.fixture
def run_id(db, admin):
    run_id = "0198aaaa-0000-4000-8000-000000000000"
    with db.unit_of_work() as uow:
        row = {"run_id": run_id, "pipeline": "p", "status": "running", "runner": "r", "params": "{}", "actor": admin}
        uow.connection.execute(insert(runs).values(**row, started=uow.time))
        uow.append("run.started", f"run:{run_id}", {"pipeline": "p"}, actor=admin, run_id=run_id)
        uow.append("request.made", f"run:{run_id}", {"condition_commitment": uow.commit_to(PROMPT)}, run_id=run_id)
    return run_id


def texts(db):
    with db.read() as connection:
        return set(connection.execute(select(commitments.c.value)).scalars())


def problems(db, keys):
    return list(verify_ledger(db, keys.log_public_key()).problems)


def test_what_a_run_was_asked_for_is_erased_and_the_ledger_verifies(db, keys, admin, run_id):
    before = [entry for entry in iter_entries(db) if entry.action != "commitment.erased"]
    erased = erase(db, commitments_of_run(db, run_id[:8]), reason="request of 3 May", actor=admin)
    assert texts(db) == {"Ada Lovelace", "request of 3 May"}
    assert [entry for entry in iter_entries(db) if entry.action != "commitment.erased"] == before
    (entry,) = iter_entries(db, action="commitment.erased")
    assert (entry.actor, entry.index) == (admin, erased.entries[0])
    assert entry.details == {"commitments": list(erased.commitments), "reason_commitment": erased.reason_commitment}
    assert not problems(db, keys)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_of_the_text_is_left_in_the_files(db, database_url, admin, run_id):
    folder = Path(make_url(database_url).database).parent
    db.close()
    assert any(PROMPT.encode() in path.read_bytes() for path in folder.glob("groundswell.db*"))
    erase(db, commitments_of_run(db, run_id), reason="request", actor=admin)
    assert not any(PROMPT.encode() in path.read_bytes() for path in folder.glob("groundswell.db*"))


def test_pages_that_show_an_erased_text_are_removed_and_no_others(db, admin, run_id, tmp_path):
    pages = tmp_path / "reports"
    pages.mkdir()
    request = canonical_text({"label": "cat", "prompt": 'Ada\'s "house" & garden'})
    with db.unit_of_work() as uow:
        condition = uow.commit_to(request)
        uow.append("request.made", f"run:{run_id}", {"condition_commitment": condition}, run_id=run_id)
    shown = {
        "request.html": "<p>prompt “" + html.escape('Ada\'s "house" & garden') + "”</p>",
        "broken.html": "<p>prompt\n“Ada&#39;s &#34;house&#34;\u200b &amp; garden”</p>",
        "label.html": "<p>label “cat”</p>",
        "name.html": "<p>by Ada Lovelace (admin)</p>",
        "other.html": "<p>category, Ada's house</p>",
        "notes.txt": PROMPT,
    }
    for page, words in shown.items():
        (pages / page).write_text(words, encoding="utf-8")
    erased = erase(db, [condition], reason="request", actor=admin, reports=pages)
    assert [path.name for path in erased.pages] == ["broken.html", "label.html", "request.html"]
    erased = erase(db, commitments_of_identity(db, admin), reason="request", actor=admin, reports=pages)
    assert [path.name for path in erased.pages] == ["name.html"]
    assert sorted(path.name for path in pages.iterdir()) == ["notes.txt", "other.html"]


def test_nothing_is_erased_where_a_page_that_shows_it_cannot_be_removed(db, admin, run_id, tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(BadSettingError, match="cannot be looked into or removed"):
        erase(db, commitments_of_run(db, run_id), reason="request", actor=admin, reports=tmp_path)
    assert PROMPT in texts(db)


def test_an_erased_name_is_listed_without_it(db, keys, admin):
    bob = create_identity(db, keys, name="Bob", role=Role.OPS, actor=admin)
    erase(db, commitments_of_identity(db, bob.identity_id), reason="he left", actor=admin)
    assert {identity.identity_id: identity.name for identity in list_identities(db)} == {
        admin: "Ada Lovelace",
        bob.identity_id: None,
    }
    assert not problems(db, keys)


def test_a_text_taken_away_behind_the_ledger_is_named(db, keys, admin, run_id):
    with db.unit_of_work() as uow:
        uow.connection.execute(delete(commitments).where(commitments.c.value == PROMPT))
    (problem,) = problems(db, keys)
    assert problem.startswith("commitment ")
    assert problem.endswith("of entry 5: its text is gone, and no entry says that it was erased")


def test_an_erased_text_that_is_put_back_is_named(db, keys, admin, run_id):
    with db.read() as connection:
        row = dict(connection.execute(select(commitments).where(commitments.c.value == PROMPT)).one()._mapping)
    erase(db, commitments_of_run(db, run_id), reason="request", actor=admin)
    with db.unit_of_work() as uow:
        uow.connection.execute(insert(commitments).values(**row))
    (problem,) = problems(db, keys)
    assert "entry 6 says that its text was erased, and it is there" in problem


def test_only_an_admin_erases(db, keys, admin, run_id):
    auditor = create_identity(db, keys, name="Eve", role=Role.AUDITOR, actor=admin)
    with pytest.raises(RefusedError, match="this takes admin"):
        erase(db, commitments_of_run(db, run_id), reason="request", actor=auditor.identity_id)
    assert PROMPT in texts(db)


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "x" * 2001])
def test_a_reason_is_needed(db, admin, run_id, reason):
    with pytest.raises(BadRecordError, match="needs a reason"):
        erase(db, commitments_of_run(db, run_id), reason=reason, actor=admin)


def test_what_is_gone_is_not_erased_again(db, admin, run_id):
    erase(db, commitments_of_run(db, run_id), reason="request", actor=admin)
    with pytest.raises(UnknownSubjectError, match="no text is kept"):
        erase(db, commitments_of_run(db, run_id), reason="request", actor=admin)
    kept = commitments_of_identity(db, admin)
    with pytest.raises(UnknownSubjectError, match="no text is kept for commitment 'abc'"):
        erase(db, ["abc", *kept], reason="request", actor=admin, must_all_be_kept=True)
    assert "Ada Lovelace" in texts(db)
    with pytest.raises(UnknownSubjectError, match="no identity has the id"):
        commitments_of_identity(db, "id-0")


def test_more_than_one_entry_holds_are_erased_at_once(db, keys, admin):
    with db.unit_of_work() as uow:
        made = [uow.commit_to(f"text {number}") for number in range(1201)]
        for one in made:
            uow.append("request.made", "x", {"text_commitment": one})
    erased = erase(db, made, reason="all of them", actor=admin)
    assert (len(erased.commitments), len(erased.entries)) == (1201, 3)
    assert not problems(db, keys)
