"""Statements in evidence bundles, judged by what the ledger says of their signers' keys: a home of its own, real keys."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from sqlalchemy import insert

from governance.bundle import content
from governance.bundle.verify import CHECKPOINT, ENTRIES, read_bundle, verify_files
from governance.checkpoint import sign_checkpoint
from governance.errors import IntegrityError
from governance.identity import Role
from governance.lineage_report.html import render_html
from governance.platform_keys import fingerprint_of
from infra.attestations import sign_statement
from infra.bundle import export_bundle
from infra.identities import create_identity, first_identity, revoke_identity
from infra.key_rotation import revoke_key, rotate_package_key
from infra.keys import LOG_KEY, PACKAGE_KEY
from infra.ledger import root_hash
from infra.ledger_verification import verify_ledger
from infra.lineage_report import build_report
from infra.log_rotation import rotate_log_key
from infra.platform_keys import key_history
from infra.tables import artifacts, attestations

SUBJECT = f"dataset:{'d' * 64}"


@pytest.fixture
def home(home):
    """A home with a dataset on record, that statements are about."""
    with home.database.unit_of_work() as uow:
        row = {"digest": "d" * 64, "kind": "dataset", "location": "gone", "facts": '{"name": "x"}', "created": uow.time}
        uow.connection.execute(insert(artifacts).values(**row))
        uow.append("dataset.imported", SUBJECT, {})
    return home


@pytest.fixture
def admin(home):
    return first_identity(home.database)


class Platform:
    """The package-signing key as a signer."""

    def __init__(self, home, admin):
        self.home, self.admin = home, admin
        self.name, self.owner = PACKAGE_KEY, f"key:{PACKAGE_KEY}"
        with home.database.read() as connection:
            self.key = key_history(connection, PACKAGE_KEY).current
        self.fingerprint, self.private = self.key.fingerprint, home.keys.private_path(PACKAGE_KEY).read_bytes()

    def revoke(self):
        revoke_key(self.home.database, self.home.keys, digits=self.fingerprint, reason="it was stolen", actor=self.admin)


class Person:
    """A person who approves, as a signer."""

    def __init__(self, home, admin):
        self.home, self.admin = home, admin
        person = create_identity(home.database, home.keys, name="Grace", role=Role.OPS, actor=admin)
        self.name, self.owner = person.identity_id, f"identity:{person.identity_id}"
        self.fingerprint = fingerprint_of(person.public_key_pem)
        self.private = home.keys.private_path(person.identity_id).read_bytes()

    def revoke(self):
        revoke_identity(self.home.database, identity_id=self.name, actor=self.admin)


@pytest.fixture(params=[Platform, Person])
def signer(request, home, admin):
    return request.param(home, admin)


def sign(signer, tmp_path, *, kind="approval"):
    """Records a statement signed with a signer's key as it was, as whoever has a copy of it can make one; returns its file."""
    (tmp_path / "copy.pem").write_bytes(signer.private)
    envelope = sign_statement({"approved": True}, tmp_path / "copy.pem")
    digest = hashlib.sha256(envelope.encode()).hexdigest()
    with signer.home.database.unit_of_work() as uow:
        values = {"kind": kind, "subject": SUBJECT, "signer": signer.name}
        row = {**values, "digest": digest, "envelope": envelope, "run_id": None, "created": uow.time}
        uow.connection.execute(insert(attestations).values(**row))
        uow.append("attestation.signed", f"attestation:{digest}", values)
    return content.statement_name(kind, digest)


@pytest.fixture
def verdict(home, admin, cli, tmp_path, monkeypatch):
    """Exports a bundle; returns exit code and problems, the same from the command as from the verifier on its own.

    Whoever exports does not look whether the ledger verifies: a platform that is honest exports nothing if it does not.
    """

    def unlooked(*arguments, **options):
        report = build_report(*arguments, **options)
        return replace(report, ledger=replace(report.ledger, state="verified"))

    def both():
        monkeypatch.setattr("infra.bundle.build_report", unlooked)
        bundle, key = tmp_path / "evidence.zip", home.keys.public_path("log")
        export_bundle(home, SUBJECT, bundle, actor=admin)
        (tmp_path / "verify.py").write_bytes(content.verifier())
        command = [sys.executable, "-I", "verify.py", bundle, "--key", key]
        alone = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
        called = cli("--json", "bundle", "verify", bundle, "--key", key)
        problems = called.document["problems"]
        assert alone.stderr == "".join(f"problem: {problem}\n" for problem in problems)
        assert alone.returncode == called.exit_code
        return called.exit_code, problems

    return both


def verified(home):
    return verify_ledger(home.database, home.keys.log_public_key())


@pytest.mark.parametrize("kind", ["approval", "provenance"])
def test_a_statement_recorded_after_its_key_was_revoked_is_refused_naming_file_and_key(home, signer, verdict, tmp_path, kind):
    signer.revoke()
    name = sign(signer, tmp_path, kind=kind)
    assert verdict() == (4, [f"{name} is signed by key {signer.fingerprint[:16]} of {signer.owner}, which was revoked before"])


def test_a_statement_recorded_before_its_key_was_revoked_stays_valid(home, signer, verdict, tmp_path):
    sign(signer, tmp_path)
    signer.revoke()
    assert verdict() == (0, [])
    late = sign(signer, tmp_path)
    code, (problem,) = verdict()
    assert code == 4
    assert problem.startswith(f"{late} is signed by key ")


def test_audit_and_report_judge_by_the_same_rule(home, signer, tmp_path):
    sign(signer, tmp_path)
    signer.revoke()
    assert verified(home).problems == ()
    assert [one.problem for one in build_report(home.database, SUBJECT, home=home.path).statements] == [""]
    sign(signer, tmp_path)
    said = f"it is signed by key {signer.fingerprint[:16]} of {signer.owner}, which was revoked before"
    (problem,) = verified(home).problems
    assert problem.endswith(said)
    with pytest.raises(IntegrityError, match=r"no evidence is exported: .* which was revoked before"):
        export_bundle(home, SUBJECT, tmp_path / "evidence.zip", actor="system")
    report = build_report(home.database, SUBJECT, home=home.path)
    assert [one.problem for one in report.statements] == ["", said]
    assert said in render_html(report)


def test_a_statement_by_the_key_that_took_a_revoked_ones_place_is_valid(home, admin, verdict, tmp_path):
    Platform(home, admin).revoke()
    rotate_package_key(home.database, home.keys, actor=admin)
    sign(Platform(home, admin), tmp_path)
    assert verdict() == (0, [])
    (statement,) = build_report(home.database, SUBJECT, home=home.path).statements
    assert (statement.problem, statement.signers) == ("", ("this home's package-signing key",))
    assert verified(home).problems == ()


def test_every_signer_is_in_a_bundle_with_what_became_of_the_key(home, signer, admin, tmp_path):
    sign(signer, tmp_path)
    signer.revoke()
    made = export_bundle(home, SUBJECT, tmp_path / "evidence.zip", actor=admin)
    entries = [json.loads(json.loads(line)["entry"]) for line in read_bundle(made.file)[ENTRIES].splitlines()]
    kind = signer.owner.partition(":")[0]
    assert [e["action"] for e in entries if e["subject"] == signer.owner] == [f"{kind}.created", f"{kind}.revoked"]


def register(home, signer):
    """Records a version whose package a key signed, whatever has become of the key."""
    with home.database.unit_of_work() as uow:
        details = {"name": "x", "version": 1, "root_digest": "e" * 64, "public_key_sha256": signer.fingerprint}
        uow.append("model.signed", "model-version:x/1", details)


def test_a_package_signed_with_a_key_that_was_revoked_before_is_refused(home, admin, verdict, monkeypatch):
    package_key = Platform(home, admin)
    monkeypatch.setattr("infra.bundle._signers", lambda *_: {"model-version:x/1"})
    register(home, package_key)
    package_key.revoke()
    assert verdict() == (0, [])
    assert verified(home).problems == ()
    register(home, package_key)
    said = f"model-version:x/1 is signed by key {package_key.fingerprint[:16]} of key:package-signing, which was revoked before"
    assert verdict() == (4, [f"{ENTRIES}: {said}"])
    (problem,) = verified(home).problems
    assert problem.endswith(f": {said}")


def test_a_checkpoint_of_a_key_whose_turn_is_over_is_refused(home, admin, verdict, monkeypatch):
    with home.database.read() as connection:
        old = key_history(connection, LOG_KEY).current.fingerprint
    stolen = home.keys.log_private_key()
    old_pem = home.keys.public_path(LOG_KEY).read_bytes()
    rotate_log_key(home.database, home.keys, actor=admin)
    assert verdict() == (0, [])

    def with_the_stolen_key(uow, _):
        uow.flush()
        return sign_checkpoint(size=uow.size, root_hash=root_hash(uow.connection, uow.size), private_key=stolen)

    monkeypatch.setattr("infra.bundle.sign_head", with_the_stolen_key)
    said = f"{CHECKPOINT} is signed by key {old[:16]} of key:log, which was"
    home.keys.public_path(LOG_KEY).write_bytes(old_pem)
    assert verdict() == (4, [f"{said} rotated before"])
    revoke_key(home.database, home.keys, digits=old, reason="it was stolen", actor=admin)
    assert verdict() == (4, [f"{said} rotated before", f"{said} revoked before"])


def test_a_bundle_of_before_a_revocation_says_what_the_log_said_then(home, signer, admin, tmp_path):
    sign(signer, tmp_path)
    made = export_bundle(home, SUBJECT, tmp_path / "evidence.zip", actor=admin)
    signer.revoke()
    assert verify_files(read_bundle(made.file), home.keys.public_path("log").read_bytes()).problems == []
