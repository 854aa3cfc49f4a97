"""Rotation and revocation of the package-signing key, on both engines."""

import hashlib
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from governance.errors import BadRecordError, IntegrityError, RefusedError, UnknownSubjectError
from governance.identity import Role
from governance.platform_keys import ROTATED, KeyState, rotation_details
from infra.attestations import sign_statement
from infra.database import Database
from infra.errors import BackendUnavailableError, BadSettingError
from infra.home import Home
from infra.identities import create_identity, list_identities
from infra.key_pem import public_pem, read_private_key
from infra.key_rotation import revoke_key, rotate_package_key
from infra.keys import PACKAGE_KEY, Keys
from infra.ledger import iter_entries, sign_checkpoint
from infra.ledger_verification import verify_ledger
from infra.locking import lock
from infra.mlflow_registry import MlflowRegistry
from infra.model_package import sign_package
from infra.model_versions import find_version, open_version
from infra.objects.store import put_tree
from infra.package_signing import sign_version_again
from infra.platform_keys import key_history
from infra.settings import Settings
from infra.tables import attestations
from tests.infra.package_inputs import make_package

# Where a rotation is killed: what it does there, and whether the new key has taken over afterwards.
_DIE = """
import os, sys
import infra.key_rotation as rotation, infra.keys as keys
from infra.home import Home
from infra.identities import first_identity
from infra.settings import Settings

def die(*_, **__):
    os._exit(9)

sign_head = rotation.sign_head
{point}
home = Home.open(Settings.load(__import__("pathlib").Path(sys.argv[1])))
rotation.rotate_package_key(home.database, home.keys, actor=first_identity(home.database))
"""
POINTS = {
    "staged": ("rotation._own = die", False),
    "not committed": ("rotation.sign_head = lambda *a: (sign_head(*a), die())", False),
    "committed": ("keys.Keys.keep_public = die", True),
    "old key kept": ("keys.Keys.take_over = die", True),
    "public key replaced": ("keys.move_file = die", True),
}


def registered(home, folder, *, version=1, weight=0.5):
    """A version as its registration leaves it, and the head signed after it."""
    package = sign_package(make_package(folder, weight=weight), home.package_signing_key)
    key = home.package_signing_key
    registry = SimpleNamespace(_db=home.database, _actor="system", _run_id=None, _private_key_pem=key)
    stored = SimpleNamespace(version=version, location=str(package.folder), model_id=None)
    MlflowRegistry._record(registry, stored, name="emoji-dit", root_digest=package.root_digest, metrics={}, inputs={})
    sign_checkpoint(home.database, home.keys)
    return find_version(home.database, f"emoji-dit/{version}")


def opened(home, version):
    return open_version(version, home.package_keys, home.package_cache)


def history(home):
    with home.database.read() as connection:
        return key_history(connection, PACKAGE_KEY)


def signing_pem(home):
    return public_pem(read_private_key(home.keys.private_path(PACKAGE_KEY)).public_key()).decode()


def attested(home):
    """A statement that is signed with the key that lies in the home."""
    envelope = sign_statement({"about": "nothing"}, home.keys.private_path(PACKAGE_KEY))
    digest = hashlib.sha256(envelope.encode()).hexdigest()
    with home.database.unit_of_work() as uow:
        values = {"kind": "approval", "subject": "package:x", "signer": PACKAGE_KEY, "created": uow.time}
        uow.connection.execute(attestations.insert().values(digest=digest, envelope=envelope, run_id=None, **values))
        uow.append("attestation.signed", f"attestation:{digest}", values)


def verified(home):
    return verify_ledger(home.database, home.keys.log_public_key())


def test_a_rotation_is_recorded_signed_and_leaves_no_old_private_key(home, admin):
    old = home.keys.private_path(PACKAGE_KEY).read_bytes()
    old_public = home.keys.public_path(PACKAGE_KEY).read_bytes()
    change = rotate_package_key(home.database, home.keys, actor=admin)
    before, now = history(home).keys
    (entry,) = iter_entries(home.database, action=ROTATED)
    assert (entry.subject, entry.actor) == (f"key:{PACKAGE_KEY}", admin)
    assert entry.details == rotation_details(signing_pem(home), before)
    assert change.key == now
    assert (before.state, now.state) == (KeyState.RETIRED, KeyState.CURRENT)
    assert signing_pem(home) == now.public_key_pem == home.keys.public_path(PACKAGE_KEY).read_text()
    assert home.keys.public_path(f"{PACKAGE_KEY}-{before.fingerprint[:16]}").read_bytes() == old_public
    assert not [path for path in home.keys.folder.rglob("*") if path.is_file() and path.read_bytes() == old]
    assert home.keys.private_path(PACKAGE_KEY).stat().st_mode & 0o777 == 0o600
    assert verified(home).problems == ()
    assert Home.open(home.settings).package_signing_key


def test_what_a_retired_key_has_signed_stays_valid(home, admin, tmp_path):
    attested(home)
    first = registered(home, tmp_path / "first")
    for _ in range(2):
        rotate_package_key(home.database, home.keys, actor=admin)
    attested(home)
    second = registered(home, tmp_path / "second", version=2, weight=0.75)
    assert opened(home, first).root_digest == first.root_digest
    assert opened(home, second).root_digest == second.root_digest
    assert verified(home).problems == ()
    assert verified(home).notices == ()


@pytest.mark.parametrize("point", POINTS)
def test_a_rotation_that_is_killed_is_finished_or_undone_by_the_next_start(home, tmp_path, point):
    patch, is_done = POINTS[point]
    version = registered(home, tmp_path / "package")
    before = history(home).current
    code = _DIE.format(point=patch)
    assert subprocess.run([sys.executable, "-c", code, str(home.path)], check=False, timeout=120).returncode == 9
    again = Home.open(home.settings, create=False)
    now = history(again).current
    assert (now != before) is is_done
    assert signing_pem(again) == now.public_key_pem == again.keys.public_path(PACKAGE_KEY).read_text()
    assert not again.keys.staged_path(PACKAGE_KEY).exists()
    assert opened(again, version).root_digest == version.root_digest
    assert opened(again, registered(again, tmp_path / "next", version=2, weight=0.75))
    assert verified(again).problems == ()
    again.database.close()


def test_a_commit_whose_answer_is_lost_counts(home, admin, monkeypatch):
    commit = Database.unit_of_work

    @contextmanager
    def unit_of_work(database):
        with commit(database) as uow:
            yield uow
        raise BackendUnavailableError("the server has gone away")

    monkeypatch.setattr(Database, "unit_of_work", unit_of_work)
    with pytest.raises(BackendUnavailableError):
        rotate_package_key(home.database, home.keys, actor=admin)
    assert [key.state for key in history(home).keys] == [KeyState.RETIRED, KeyState.CURRENT]
    assert signing_pem(home) == history(home).current.public_key_pem
    assert not home.keys.staged_path(PACKAGE_KEY).exists()


def test_a_start_waits_for_a_rotation_that_is_under_way(home):
    home.keys.stage(PACKAGE_KEY, read_private_key(home.keys.private_path(PACKAGE_KEY)))
    seen = []
    with lock(home.keys.lock_path):
        opening = threading.Thread(target=lambda: seen.append(Home.open(home.settings)))
        opening.start()
        opening.join(timeout=0.5)
        assert not seen
    opening.join(timeout=60)
    assert seen
    assert not home.keys.staged_path(PACKAGE_KEY).exists()


def test_only_an_admin_rotates_and_revokes(home, admin):
    grace = create_identity(home.database, home.keys, name="Grace", role=Role.OPS, actor=admin).identity_id
    digits = history(home).current.fingerprint
    with pytest.raises(RefusedError, match="takes admin"):
        rotate_package_key(home.database, home.keys, actor=grace)
    with pytest.raises(RefusedError, match="takes admin"):
        revoke_key(home.database, home.keys, digits=digits, reason="because", actor=grace)
    assert [key.state for key in history(home).keys] == [KeyState.CURRENT]
    assert not home.keys.staged_path(PACKAGE_KEY).exists()


def test_what_a_revoked_key_has_signed_is_refused_until_it_is_signed_again(home, admin, tmp_path):
    version = registered(home, tmp_path / "package")
    rotate_package_key(home.database, home.keys, actor=admin)
    old = history(home).keys[0]
    revoked = revoke_key(home.database, home.keys, digits=old.fingerprint[:8], reason="a lost disk", actor=admin).key
    with pytest.raises(RefusedError, match=rf"key {old.fingerprint[:16]}, which was revoked on {revoked.revoked}") as caught:
        opened(home, version)
    assert "models sign" in caught.value.hint
    (notice,) = verified(home).notices
    assert f"{old.fingerprint[:16]} was revoked on" in notice
    assert "emoji-dit/1" in notice
    sign_version_again(home, version, actor=admin)
    assert opened(home, version).root_digest == version.root_digest
    (notice,) = verified(home).notices
    assert "emoji-dit/1" not in notice
    assert verified(home).problems == ()


def test_a_package_in_an_object_store_is_signed_again_there(tmp_path, s3_bucket):
    home = Home.open(Settings.load(tmp_path / "home"))
    admin = list_identities(home.database)[0].identity_id
    local = registered(home, tmp_path / "package")
    version = replace(local, location=f"s3://{s3_bucket}/package")
    put_tree(Path(local.location), version.location)
    assert opened(home, version)
    fingerprint = history(home).current.fingerprint
    rotate_package_key(home.database, home.keys, actor=admin)
    revoke_key(home.database, home.keys, digits=fingerprint, reason="because", actor=admin)
    with pytest.raises(RefusedError, match="was revoked on"):
        opened(home, version)
    sign_version_again(home, version, actor=admin)
    assert opened(home, version).root_digest == version.root_digest
    home.database.close()


def test_the_reason_is_not_in_the_ledger(home, admin):
    digits = history(home).current.fingerprint
    revoke_key(home.database, home.keys, digits=digits, reason="Ada lost it", actor=admin)
    assert b"Ada" not in b"".join(entry.to_bytes() for entry in iter_entries(home.database))
    with home.database.read() as connection:
        assert connection.execute(text("SELECT value FROM gs_commitments WHERE value LIKE 'Ada%'")).scalar() == "Ada lost it"


def test_with_a_revoked_key_nothing_is_signed_before_a_rotation(home, admin, tmp_path):
    digits = history(home).current.fingerprint
    revoke_key(home.database, home.keys, digits=digits, reason="because", actor=admin)
    with pytest.raises(RefusedError, match="nothing is signed with it") as caught:
        _ = home.package_signing_key
    assert caught.value.hint.startswith("`groundswell key rotate package-signing`")
    again = Home.open(home.settings)
    rotate_package_key(again.database, again.keys, actor=admin)
    assert opened(again, registered(again, tmp_path / "package"))


def test_a_key_that_is_revoked_while_a_package_is_stored_registers_nothing(home, admin, tmp_path):
    fingerprint = history(home).current.fingerprint
    (tmp_path / "copy.pem").write_bytes(home.package_signing_key.read_bytes())
    revoke_key(home.database, home.keys, digits=fingerprint, reason="because", actor=admin)
    rotate_package_key(home.database, home.keys, actor=admin)
    registry = SimpleNamespace(_db=home.database, _actor="system", _run_id=None, _private_key_pem=tmp_path / "copy.pem")
    stored = SimpleNamespace(version=1, location="/models", model_id=None)
    with pytest.raises(RefusedError, match=f"key {fingerprint[:16]} was revoked on .* before what it signed was recorded"):
        MlflowRegistry._record(registry, stored, name="emoji-dit", root_digest="e" * 64, metrics={}, inputs={})
    assert not list(iter_entries(home.database, action="model.registered"))


def test_a_registration_names_the_key_that_signed_the_package(home, tmp_path):
    registered(home, tmp_path / "package")
    (entry,) = iter_entries(home.database, action="model.registered")
    assert entry.details["public_key_sha256"] == history(home).current.fingerprint


def test_a_statement_signed_with_a_key_that_was_revoked_before_is_found(home, admin):
    attested(home)
    digits = history(home).current.fingerprint
    revoke_key(home.database, home.keys, digits=digits, reason="because", actor=admin)
    assert verified(home).problems == ()
    attested(home)
    assert any("which was revoked before" in problem for problem in verified(home).problems)


def test_a_package_signed_again_must_be_the_one_that_was_registered(home, admin, tmp_path):
    version = registered(home, tmp_path / "package")
    other = registered(home, tmp_path / "other", version=2, weight=0.75)
    shutil.rmtree(version.location)
    shutil.copytree(other.location, version.location)
    with pytest.raises(IntegrityError, match="is on record"):
        sign_version_again(home, version, actor=admin)
    grace = create_identity(home.database, home.keys, name="Grace", role=Role.OPS, actor=admin).identity_id
    with pytest.raises(RefusedError, match="takes admin"):
        sign_version_again(home, other, actor=grace)


def test_a_key_that_merely_lies_in_the_folder_opens_no_package(home, tmp_path):
    version = registered(home, tmp_path / "package")
    other = Keys.create(tmp_path / "others")
    sign_package(Path(version.location), other.private_path(PACKAGE_KEY))
    public = other.public_path(PACKAGE_KEY).read_bytes()
    for name in (PACKAGE_KEY, f"{PACKAGE_KEY}-{'0' * 16}"):
        home.keys.public_path(name).write_bytes(public)
    with pytest.raises(IntegrityError, match="a key that the ledger does not name"):
        opened(home, version)


def test_a_key_that_somebody_writes_into_the_database_opens_no_package(home, tmp_path):
    registered(home, tmp_path / "package")
    other = Keys.create(tmp_path / "others").public_path(PACKAGE_KEY).read_text()
    with home.database.unit_of_work() as uow:
        uow.append(ROTATED, f"key:{PACKAGE_KEY}", rotation_details(other, history(home).current))
    with pytest.raises(IntegrityError, match="newest signed checkpoint does not cover"):
        _ = home.package_keys


def test_without_any_checkpoint_only_the_homes_own_first_key_counts(home, tmp_path):
    assert home.package_keys
    other = Keys.create(tmp_path / "others").public_path(PACKAGE_KEY)
    shutil.copyfile(other, home.keys.public_path(PACKAGE_KEY))
    with pytest.raises(IntegrityError, match="no signed checkpoint covers"):
        _ = home.package_keys
    with home.database.unit_of_work() as uow:
        uow.append(ROTATED, f"key:{PACKAGE_KEY}", rotation_details(other.read_text(), history(home).current))
    with pytest.raises(IntegrityError, match="no signed checkpoint covers"):
        _ = home.package_keys


def test_a_home_with_the_key_of_before_is_refused(home, admin, tmp_path):
    shutil.copytree(home.keys.folder, tmp_path / "other host" / "keys")
    rotate_package_key(home.database, home.keys, actor=admin)
    with pytest.raises(BadSettingError, match="not those of database"):
        Home.open(replace(home.settings, home=tmp_path / "other host"))


def test_unknown_keys_and_missing_reasons_are_refused(home, admin):
    with pytest.raises(UnknownSubjectError, match="no key has the fingerprint"):
        revoke_key(home.database, home.keys, digits="0" * 16, reason="because", actor=admin)
    with pytest.raises(BadRecordError, match="needs a reason"):
        revoke_key(home.database, home.keys, digits="0" * 16, reason=" ", actor=admin)
