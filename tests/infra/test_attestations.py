"""Signed provenance in a home: one statement a registration, recorded with the run's end, and checked by `audit verify`."""

import json
import re

import pytest
from sqlalchemy import insert, select, update

from governance.canonical import canonical_text
from governance.dsse import key_id
from governance.lineage import ArtifactRef, StepIdentity, run_event
from governance.lineage_report.html import render_html
from infra.attestations import statements_about
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import record_event
from infra.lineage_report import build_report
from infra.run_records import begin_run, end_run
from infra.runs import StepError
from infra.tables import attestations, model_versions, steps

RUN = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
SUBJECT = "model-version:emoji-dit/1"
RECORD = {
    "config": {"rate": 0.5},
    "inputs": {"dataset": {"kind": "dataset", "digest": "d" * 64, "location": "/home/ada/data"}},
    "outputs": {"package": {"kind": "package", "digest": "f" * 64, "location": "/home/ada/package"}},
    "metrics": {},
    "facts": {"name": "emoji-dit", "version": 1, "root_digest": "f" * 64},
    "summary": "",
    "code_digest": "2" * 64,
    "environment": {"lock_digest": "3" * 64, "host": "adas-laptop"},
}


def run(home, run_id=RUN, *, status="completed", step_status="completed", error=None):
    params = {"data": {"source": "/home/ada/pictures"}}
    begin_run(home, run_id=run_id, pipeline="training", runner="subprocess", params=params, actor="system")
    with home.database.unit_of_work() as uow:
        row = {"run_id": run_id, "step": "register_model", "status": step_status, "fingerprint": "1" * 64, "started": uow.time}
        uow.connection.execute(steps.insert().values(**row, record=canonical_text(RECORD, floats=True)))
        uow.append(f"step.{step_status}", f"step:{run_id}/register_model", {}, run_id=run_id)
    end_run(home, run_id=run_id, status=status, error=error)


def register(home):
    """The version's row and lineage, as the step would have left them."""
    identity = StepIdentity(run_id=RUN, pipeline="training", step="register_model")
    made = ArtifactRef(kind="package", digest="f" * 64)
    row = {"name": "emoji-dit", "version": 1, "root_digest": "f" * 64, "location": "x", "run_id": RUN}
    with home.database.unit_of_work() as uow:
        uow.connection.execute(insert(model_versions).values(**row, metrics="{}", inputs="{}", created=uow.time))
        uow.append("model.registered", SUBJECT, {"root_digest": "f" * 64}, run_id=RUN)
        record_event(uow, run_event("COMPLETE", identity, time=uow.time, outputs=[made]))


def stored(home):
    with home.database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(select(attestations))]


def test_a_run_that_registers_a_version_leaves_one_signed_statement(home):
    run(home)
    (row,) = stored(home)
    assert (row["kind"], row["subject"], row["run_id"], row["signer"]) == ("provenance", SUBJECT, RUN, "package-signing")
    (entry,) = iter_entries(home.database, action="attestation.signed")
    assert entry.subject == f"attestation:{row['digest']}"
    actions = [entry.action for entry in iter_entries(home.database)]
    assert actions[-2:] == ["attestation.signed", "run.completed"]
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    with home.database.read() as connection:
        assert statements_about(connection, SUBJECT) == [(row["digest"], "provenance", "package-signing")]


def test_it_names_no_person_no_path_and_no_host(home):
    import base64

    run(home)
    payload = base64.b64decode(json.loads(stored(home)[0]["envelope"])["payload"]).decode()
    assert "f" * 64 in payload
    assert not any(word in payload for word in ("/home", "laptop", "pictures"))


@pytest.mark.parametrize("step_status", ["completed", "failed"])
def test_a_run_that_fails_leaves_none_and_the_next_one_makes_up_for_it(home, step_status):
    run(home, status="failed", step_status=step_status, error=StepError(diagnosis="x"))
    assert stored(home) == []
    run(home, OTHER, step_status="reused")
    assert [row["run_id"] for row in stored(home)] == [OTHER]


def test_a_version_that_is_signed_for_gets_no_second_statement(home):
    run(home)
    run(home, OTHER, step_status="reused")
    assert [row["run_id"] for row in stored(home)] == [RUN]


def test_a_statement_that_was_changed_or_is_gone_is_found(home):
    run(home)
    (row,) = stored(home)
    document = json.loads(row["envelope"])
    forged = canonical_text({**document, "payload": document["payload"][:-8] + "AAAAAAA="})
    changes = [
        {"envelope": forged},
        {"envelope": "?"},
        {"envelope": row["envelope"] + " "},
        {"subject": "model-version:emoji-dit/2"},
        {"signer": "log"},
        {"kind": "approval"},
        {"run_id": None},
    ]
    for change in changes:
        with home.database.engine.begin() as connection:
            connection.execute(attestations.update().values(**change))
        problems = verify_ledger(home.database, home.keys.log_public_key()).problems
        assert any("attestation" in problem for problem in problems), change
        with home.database.engine.begin() as connection:
            connection.execute(attestations.update().values(**row))
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    with home.database.engine.begin() as connection:
        connection.execute(attestations.delete())
    assert any("has an entry but no row" in p for p in verify_ledger(home.database, home.keys.log_public_key()).problems)


def report(home):
    content = build_report(home.database, SUBJECT, home=home.path)
    return content, render_html(content)


def test_a_report_lists_statements_with_their_signer_and_that_they_verify(home):
    run(home)
    register(home)
    content, page = report(home)
    (statement,) = content.statements
    (key,) = [entry for entry in iter_entries(home.database, action="key.created") if entry.subject == "key:package-signing"]
    assert (statement.kind, statement.subject, statement.problem) == ("provenance", SUBJECT, "")
    assert statement.signers == ("this home's package-signing key",)
    assert statement.key_ids == (key_id(key.details["public_key_pem"]),)
    assert "signature verifies" in page
    assert statement.digest in page
    assert "attestation.signed" in {line.action for line in content.ledger.entries}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda row: row["envelope"].replace('"sig":"', '"sig":"AAAA'), "its signature does not hold"),
        (lambda row: row["envelope"] + " ", "no signed statement in canonical form"),
        (lambda _: "{}", "no signed statement"),
        (lambda row: re.sub('"keyid":"[^"]*"', f'"keyid":"{"0" * 64}"', row["envelope"]), "a key that is not known"),
    ],
)
def test_a_report_says_which_statement_does_not_verify_and_why(home, change, problem):
    run(home)
    register(home)
    (row,) = stored(home)
    with home.database.unit_of_work() as uow:
        uow.connection.execute(update(attestations).values(envelope=change(row)))
    content, page = report(home)
    (statement,) = content.statements
    assert problem in statement.problem
    assert "does not verify" in page
    assert "signature verifies" not in page
