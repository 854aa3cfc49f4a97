"""Rotation of the log's key: whoever has the old key is led to the new one, and nobody else can name one. On both engines."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from governance.bundle.verify import read_bundle, verify_files
from governance.checkpoint import key_name, sign_checkpoint, verify_checkpoint
from governance.errors import BadRecordError, IntegrityError, RefusedError
from governance.identity import Role
from governance.log_keys import ACTIVATED, LogKeys
from governance.platform_keys import REVOKED, ROTATED, KeyState, rotation_details
from infra import log_keys as log_keys_module
from infra.anchors import read_anchors
from infra.bundle import export_bundle
from infra.errors import BackendUnavailableError, BadSettingError
from infra.home import Home
from infra.identities import create_identity
from infra.key_pem import public_pem, read_log_public_key
from infra.key_rotation import revoke_key
from infra.keys import LOG_KEY, Keys
from infra.ledger import iter_entries, root_hash
from infra.ledger import sign_checkpoint as sign_ledger
from infra.ledger_verification import verify_ledger
from infra.log_keys import log_keys
from infra.log_rotation import replace_stolen_log_key, rotate_log_key
from infra.platform_keys import key_history
from infra.tables import artifacts, ledger_checkpoints
from infra.witnesses import ask, publish
from tests.backups import back_up, restore, settings_of

_DIE = """
import os, sys
from pathlib import Path
import infra.key_rotation as rotation, infra.keys as keys, infra.log_rotation as log
from infra.home import Home
from infra.identities import first_identity
from infra.settings import Settings

def die(*_, **__):
    os._exit(9)

sign = log._sign_with_new
{point}
home = Home.open(Settings.load(Path(sys.argv[1])))
log.rotate_log_key(home.database, home.keys, actor=first_identity(home.database))
"""
POINTS = {
    "staged": ("rotation._own = die", False),
    "handed over": ("log._sign_with_new = die", False),
    "not committed": ("log._sign_with_new = lambda *a: (sign(*a), die())", False),
    "committed": ("keys.Keys.keep_public = die", True),
    "old key kept": ("keys.Keys.take_over = die", True),
    "public key replaced": ("keys.move_file = die", True),
}


@pytest.fixture
def old(home):
    """The key that an auditor has kept."""
    sign_ledger(home.database, home.keys)
    return home.keys.log_public_key()


def grow(home):
    with home.database.unit_of_work() as uow:
        uow.append("note.made", "note:1", {})
    return sign_ledger(home.database, home.keys)


def states(home):
    with home.database.read() as connection:
        return [key.state for key in key_history(connection, LOG_KEY).keys]


def known_log(home, key):
    with home.database.read() as connection:
        return log_keys(connection, key)


def test_a_rotated_log_verifies_with_the_new_key_and_with_every_one_before(home, admin, old):
    rotate_log_key(home.database, home.keys, actor=admin)
    second = home.keys.log_public_key()
    grow(home)
    rotate_log_key(home.database, home.keys, actor=admin)
    grow(home)
    new = home.keys.log_public_key()
    assert states(home) == [KeyState.RETIRED, KeyState.RETIRED, KeyState.CURRENT]
    for key in (old, second, new):
        report = verify_ledger(home.database, key)
        assert report.problems == ()
        assert report.num_checkpoints == 7
    assert verify_ledger(home.database, new).notices == ()
    (notice,) = verify_ledger(home.database, old).notices
    assert notice.startswith(f"the log's key was rotated: {key_name(old)} has signed over to {key_name(new)}")


def test_the_hand_over_is_in_the_ledger_and_signed_by_the_old_key(home, admin, old):
    rotate_log_key(home.database, home.keys, actor=admin)
    rotated, activated = [entry for entry in iter_entries(home.database) if entry.action in {ROTATED, ACTIVATED}]
    assert (rotated.subject, activated.index) == ("key:log", rotated.index + 1)
    assert rotated.details["public_key_pem"] == public_pem(home.keys.log_public_key()).decode()
    assert verify_checkpoint(activated.details["checkpoint"], old).size == rotated.index + 1


def test_the_old_private_key_is_gone_and_the_old_public_one_is_kept(home, admin, old):
    private = home.keys.private_path(LOG_KEY).read_bytes()
    rotate_log_key(home.database, home.keys, actor=admin)
    assert not [path for path in home.keys.folder.rglob("*") if path.is_file() and path.read_bytes() == private]
    with home.database.read() as connection:
        retired = key_history(connection, LOG_KEY).keys[0]
    kept = read_log_public_key(home.keys.public_path(f"{LOG_KEY}-{retired.fingerprint[:16]}"))
    assert kept.public_bytes_raw() == old.public_bytes_raw()
    again = Home.open(home.settings)
    assert again.package_keys
    again.database.close()


def test_another_logs_key_verifies_nothing(home, admin, old):
    rotate_log_key(home.database, home.keys, actor=admin)
    other = Ed25519PrivateKey.generate().public_key()
    assert any(key_name(other) in problem for problem in verify_ledger(home.database, other).problems)


def test_an_entry_about_the_key_that_is_no_entry_is_a_problem_and_not_the_end(tmp_path):
    home = Home.open(settings_of(tmp_path / "home"))
    sign_ledger(home.database, home.keys)
    for value in ("'text'", "x'00'"):
        with home.database.engine.begin() as connection:
            connection.execute(text("DROP TRIGGER IF EXISTS gs_ledger_entries_no_update"))
            connection.execute(text(f"UPDATE gs_ledger_entries SET entry = {value} WHERE subject = 'key:log'"))
        assert verify_ledger(home.database, home.keys.log_public_key()).problems
    home.database.close()


@pytest.mark.parametrize("point", POINTS)
def test_a_rotation_that_is_killed_is_finished_or_undone_by_the_next_start(home, old, point):
    patch, is_done = POINTS[point]
    code = _DIE.format(point=patch)
    assert subprocess.run([sys.executable, "-c", code, str(home.path)], check=False, timeout=120).returncode == 9
    again = Home.open(home.settings, create=False)
    new = again.keys.log_public_key()
    assert (key_name(new) != key_name(old)) is is_done
    assert again.keys.log_private_key().public_key() == new
    assert not again.keys.staged_path(LOG_KEY).exists()
    grow(again)
    assert [verify_ledger(again.database, key).problems for key in (old, new)] == [(), ()]
    again.database.close()


def test_a_stolen_key_signs_nothing_over(home, admin, old):
    replace_stolen_log_key(home.database, home.keys, reason="Ada lost it", actor=admin)
    grow(home)
    new = home.keys.log_public_key()
    assert states(home) == [KeyState.REVOKED, KeyState.CURRENT]
    report = verify_ledger(home.database, new)
    assert report.problems == ()
    assert any("the log key" in notice and "was revoked on" in notice for notice in report.notices)
    (problem,) = verify_ledger(home.database, old).problems
    assert problem.startswith(f"the log's key {key_name(old)} was revoked on 20")
    assert "ask whoever runs the log for the new one" in problem
    (entry,) = iter_entries(home.database, action=REVOKED)
    assert "Ada" not in entry.to_bytes().decode()
    rotate_log_key(home.database, home.keys, actor=admin)
    assert verify_ledger(home.database, new).problems == ()
    assert len(verify_ledger(home.database, old).problems) == 1


def forge(home, attacker, *, handover):
    """Appends a rotation to an attacker's key, as somebody can who writes the database and has no key of the log."""
    with home.database.unit_of_work() as uow:
        before = key_history(uow.connection, LOG_KEY).current
        uow.append(ROTATED, "key:log", rotation_details(public_pem(attacker.public_key()).decode(), before))
        uow.flush()
        root = root_hash(uow.connection, uow.size)
        uow.append(ACTIVATED, "key:log", handover(uow.size, root))
        uow.flush()
        note = sign_checkpoint(size=uow.size, root_hash=root_hash(uow.connection, uow.size), private_key=attacker)
        uow.connection.execute(ledger_checkpoints.insert().values(size=uow.size, note=note, time=uow.time))


@pytest.mark.parametrize("kind", ["none", "own signature", "under the log's name", "replayed", "grafted"])
def test_a_key_that_the_old_one_has_not_signed_over_to_is_refused(home, old, kind):
    attacker = Ed25519PrivateKey.generate()
    genuine = grow(home)

    def handover(size, root):
        own = sign_checkpoint(size=size, root_hash=root, private_key=attacker)
        grafted = own.rpartition("\n\n")[0].replace(key_name(attacker.public_key()), key_name(old))
        return {
            "none": {},
            "own signature": {"checkpoint": own},
            "under the log's name": {"checkpoint": own.replace(key_name(attacker.public_key()), key_name(old))},
            "replayed": {"checkpoint": genuine},
            "grafted": {"checkpoint": f"{grafted}\n\n{genuine.rpartition(chr(10) * 2)[2]}"},
        }[kind]

    forge(home, attacker, handover=handover)
    problems = verify_ledger(home.database, old).problems
    assert any(f"but {key_name(old)} has not signed it over" in problem for problem in problems), problems
    with pytest.raises(IntegrityError):
        _ = home.package_keys


def test_a_checkpoint_of_another_history_is_no_hand_over(home, old):
    """The old key has signed a head of the size, before the ledger was written anew."""
    attacker = Ed25519PrivateKey.generate()
    private = home.keys.log_private_key()

    def handover(size, root):
        return {"checkpoint": sign_checkpoint(size=size, root_hash=bytes(32), private_key=private)}

    forge(home, attacker, handover=handover)
    problems = verify_ledger(home.database, old).problems
    assert any("the entries before it are not those that were signed" in problem for problem in problems), problems
    with pytest.raises(IntegrityError):
        _ = home.package_keys


def test_what_the_old_key_signs_after_it_has_handed_over_does_not_count(home, admin, old):
    stolen = home.keys.log_private_key()
    rotate_log_key(home.database, home.keys, actor=admin)
    with home.database.unit_of_work() as uow:
        uow.append("note.made", "note:1", {})
        uow.flush()
        size = uow.size
        note = sign_checkpoint(size=size, root_hash=root_hash(uow.connection, size), private_key=stolen)
        uow.connection.execute(ledger_checkpoints.insert().values(size=size, note=note, time=uow.time))
    new = home.keys.log_public_key()
    expected = f"checkpoint {size}: the checkpoint is of {key_name(old)}, the key is that of {key_name(new)}"
    assert verify_ledger(home.database, old).problems == (expected,)
    assert verify_ledger(home.database, new).problems == (expected,)
    with pytest.raises(IntegrityError):
        sign_ledger(home.database, home.keys)


def test_a_key_that_was_rotated_signs_no_head(home, admin, monkeypatch, tmp_path):
    shutil.copytree(home.keys.folder, tmp_path / "other" / "keys")
    stale = Keys(tmp_path / "other" / "keys")
    rotate_log_key(home.database, home.keys, actor=admin)
    monkeypatch.setattr(log_keys_module, "_WAIT_S", 0.1)
    with pytest.raises(BackendUnavailableError, match="was rotated, and the new one is not here"):
        sign_ledger(home.database, stale)
    with pytest.raises(BadSettingError, match="not those of database"):
        Home.open(replace(home.settings, home=tmp_path / "other"))


def test_only_an_admin_rotates_and_a_theft_needs_a_reason(home, admin, old):
    grace = create_identity(home.database, home.keys, name="Grace", role=Role.OPS, actor=admin).identity_id
    with pytest.raises(RefusedError, match="takes admin"):
        rotate_log_key(home.database, home.keys, actor=grace)
    with pytest.raises(BadRecordError, match="needs a reason"):
        replace_stolen_log_key(home.database, home.keys, reason="", actor=admin)
    assert states(home) == [KeyState.CURRENT]
    assert home.keys.log_public_key() == old


def test_a_ledger_that_does_not_continue_its_last_checkpoint_is_not_handed_over(home, admin, old):
    with home.database.unit_of_work() as uow:
        note = sign_checkpoint(size=uow.size + 9, root_hash=bytes(32), private_key=home.keys.log_private_key())
        uow.connection.execute(ledger_checkpoints.insert().values(size=uow.size + 9, note=note, time=uow.time))
    for rotate in (rotate_log_key, lambda *a, actor: replace_stolen_log_key(*a, reason="x", actor=actor)):
        with pytest.raises(IntegrityError, match="does not continue"):
            rotate(home.database, home.keys, actor=admin)
    assert home.keys.log_public_key() == old
    assert not home.keys.staged_path(LOG_KEY).exists()


def test_anchors_and_witnesses_of_earlier_keys_count(home, admin, old, tmp_path):
    witness = tmp_path / "witness"
    publish([str(witness)], grow(home))
    publish([str(witness)], rotate_log_key(home.database, home.keys, actor=admin).note)
    publish([str(witness)], grow(home))
    for key in (old, home.keys.log_public_key()):
        log = known_log(home, key)
        (testimony,) = ask([str(witness)], log)
        assert [anchor.size for anchor in testimony.anchors] == sorted(anchor.size for anchor in testimony.anchors)
        assert len(testimony.anchors) == 3
        anchors = read_anchors([witness], log)
        assert verify_ledger(home.database, key, anchors=anchors).problems == ()
        assert verify_ledger(home.database, key, anchors=anchors).num_anchors == 3
    assert len(read_anchors([witness], LogKeys.of(old))) == 1


def test_an_anchor_that_a_stolen_old_key_has_signed_later_is_refused(home, admin, old, tmp_path):
    stolen = home.keys.log_private_key()
    rotate_log_key(home.database, home.keys, actor=admin)
    forged = tmp_path / "anchor"
    forged.write_text(sign_checkpoint(size=500, root_hash=bytes(32), private_key=stolen))
    with pytest.raises(IntegrityError, match="anchor"):
        read_anchors([forged], known_log(home, old))


def test_a_rotated_log_is_restored_with_any_of_its_keys(home, admin, old, tmp_path):
    (tmp_path / "old.pem").write_bytes(public_pem(old))
    before = back_up(home, tmp_path / "before.tar").file
    rotate_log_key(home.database, home.keys, actor=admin)
    (tmp_path / "new.pem").write_bytes(public_pem(home.keys.log_public_key()))
    after = back_up(home, tmp_path / "after.tar").file
    for name in ("old", "new"):
        target = settings_of(tmp_path / name / "home")
        restored = restore(after, target, key=tmp_path / f"{name}.pem")
        assert restored.log == key_name(home.keys.log_public_key())
        again = Home.open(target)
        assert verify_ledger(again.database, old).problems == ()
        rotate_log_key(again.database, again.keys, actor=admin)
        again.database.close()
    with pytest.raises(IntegrityError, match="the backup is of"):
        restore(before, settings_of(tmp_path / "none" / "home"), key=tmp_path / "new.pem")
    (tmp_path / "none.pem").write_bytes(public_pem(Ed25519PrivateKey.generate().public_key()))
    with pytest.raises(IntegrityError, match="the backup is of"):
        restore(after, settings_of(tmp_path / "none" / "home"), key=tmp_path / "none.pem")


def test_with_a_revoked_key_nothing_is_restored(home, admin, old, tmp_path):
    (tmp_path / "old.pem").write_bytes(public_pem(old))
    replace_stolen_log_key(home.database, home.keys, reason="because", actor=admin)
    made = back_up(home, tmp_path / "after.tar").file
    with pytest.raises(IntegrityError, match="was revoked on"):
        restore(made, settings_of(tmp_path / "again" / "home"), key=tmp_path / "old.pem")
    assert restore(made, settings_of(tmp_path / "again" / "home"))


def test_a_retired_key_can_be_revoked_and_the_current_one_by_a_rotation_alone(home, admin, old):
    with home.database.read() as connection:
        digits = key_history(connection, LOG_KEY).current.fingerprint
    with pytest.raises(RefusedError, match="signs the log's head") as caught:
        revoke_key(home.database, home.keys, digits=digits, reason="because", actor=admin)
    assert "key rotate log --compromised" in caught.value.hint
    rotate_log_key(home.database, home.keys, actor=admin)
    assert verify_ledger(home.database, old).ok
    revoke_key(home.database, home.keys, digits=digits, reason="because", actor=admin)
    assert verify_ledger(home.database, home.keys.log_public_key()).ok
    (problem,) = verify_ledger(home.database, old).problems
    assert f"{key_name(old)} was revoked on" in problem


def test_bundles_verify_with_the_key_of_their_time(home, admin, old, tmp_path):
    with home.database.unit_of_work() as uow:
        uow.append("dataset.imported", f"dataset:{'d' * 64}", {"num_items": 3})
        row = {"digest": "d" * 64, "kind": "dataset", "location": "gone", "facts": "{}", "created": uow.time}
        uow.connection.execute(artifacts.insert().values(**row))
    before = export_bundle(home, f"dataset:{'d' * 64}", tmp_path / "before.zip", actor=admin).file
    rotate_log_key(home.database, home.keys, actor=admin)
    after = export_bundle(home, f"dataset:{'d' * 64}", tmp_path / "after.zip", actor=admin).file
    new = public_pem(home.keys.log_public_key())
    assert verify_files(read_bundle(before), public_pem(old)).problems == []
    assert verify_files(read_bundle(after), new).problems == []
    assert read_bundle(after)["public_key.pem"] == new
    assert verify_files(read_bundle(after), public_pem(old)).problems
