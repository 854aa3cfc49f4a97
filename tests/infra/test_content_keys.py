"""The keys behind content credentials: made once, rotated, revoked, backed up, and none that somebody slips in is trusted."""

import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from governance.credentials.media_kind import MediaKind
from governance.credentials.verdict import Outcome
from governance.errors import IntegrityError, RefusedError
from infra.content_credentials import ContentSigner
from infra.content_keys import content_trust, rotate_content_key, signing_keys
from infra.errors import BadSettingError
from infra.home import Home
from infra.identities import first_identity
from infra.key_rotation import revoke_key
from infra.keys import CONTENT_KEY, CONTENT_ROOT, PACKAGE_KEY
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.platform_keys import key_history
from infra.settings import Settings
from infra.watermark import watermark_secrets
from tests.backups import back_up, restore, settings_of
from tests.content_world import ANY, RUN, drawing, encoded, outcomes, own_files, publish_files

own = pytest.fixture(own_files)


class TestKeys:
    """The keys behind the credentials."""

    def test_a_new_home_has_none_and_the_first_use_makes_them_once(self, tmp_path):
        home = Home.open(Settings.load(tmp_path / "home"))
        assert content_trust(home) is None
        package = home.keys.private_path(PACKAGE_KEY).read_bytes()
        first, second = signing_keys(home), signing_keys(home)
        assert first == second
        created = [entry.subject for entry in iter_entries(home.database) if entry.action == "key.created"]
        assert created == ["key:log", "key:package-signing", "key:content-root", "key:content-credentials"]
        for name in (CONTENT_KEY, CONTENT_ROOT):
            assert stat.S_IMODE(home.keys.private_path(name).stat().st_mode) == 0o600
            assert stat.S_IMODE(home.keys.public_path(f"{name}-certificate").stat().st_mode) == 0o644
        assert home.keys.private_path(PACKAGE_KEY).read_bytes() == package
        assert content_trust(home).root_pem == first.root_pem
        assert "PRIVATE" not in repr(first)
        assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()

    def test_processes_that_sign_first_at_once_make_one_key(self, tmp_path):
        Home.open(Settings.load(tmp_path / "home"))
        code = (
            "import sys; from pathlib import Path; from infra.home import Home; from infra.settings import Settings; "
            "from infra.content_keys import signing_keys; "
            "print(signing_keys(Home.open(Settings.load(Path(sys.argv[1])))).certificate_pem)"
        )
        workers = [
            subprocess.Popen([sys.executable, "-c", code, tmp_path / "home"], stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        said = {worker.communicate(timeout=60)[0] for worker in workers}
        assert [worker.returncode for worker in workers] == [0, 0, 0]
        assert len(said) == 1

    def test_a_death_between_files_and_ledger_is_made_good(self, tmp_path, monkeypatch):
        home = Home.open(Settings.load(tmp_path / "home"))

        def die(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("infra.content_keys.sign_head", die)
            with pytest.raises(KeyboardInterrupt):
                signing_keys(home)
        assert content_trust(home) is None
        keys = signing_keys(home)
        assert content_trust(home).root_pem == keys.root_pem

    def test_another_hosts_folder_without_the_keys_is_refused(self, own, tmp_path):
        for name in (CONTENT_KEY, CONTENT_ROOT):
            own.home.keys.private_path(name).unlink()
        with pytest.raises(BadSettingError, match="not the one that the ledger names"):
            signing_keys(own.home)
        assert outcomes(own.path, own.home)[1].ok, "to verify takes no private key"

    def test_a_private_key_that_others_can_read_signs_nothing(self, own):
        own.home.keys.private_path(CONTENT_KEY).chmod(0o644)
        with pytest.raises(BadSettingError, match="can be read by others"):
            signing_keys(own.home)

    def test_after_a_rotation_both_keys_files_verify(self, own, tmp_path):
        admin = first_identity(own.home.database)
        before = signing_keys(own.home)
        rotate_content_key(own.home, actor=admin)
        after = signing_keys(own.home)
        assert before.certificate_pem != after.certificate_pem
        assert before.root_pem == after.root_pem
        later = publish_files(own.home, tmp_path / "b", {"image.png": encoded(drawing(9), "PNG")}, run_id=f"3{RUN[1:]}")
        assert outcomes(own.path, own.home)[1].ok
        assert outcomes(later.path, own.home)[1].ok
        with own.home.database.read() as connection:
            old = key_history(connection, CONTENT_KEY).keys[0]
        revoke_key(own.home.database, own.home.keys, digits=old.fingerprint, reason="a leak", actor=admin)
        found, verdict = outcomes(own.path, own.home)
        assert (found["manifest"], found["digest"]) == (Outcome.FAILED, Outcome.HELD)
        assert "was revoked on" in verdict.failed[0].says
        assert outcomes(later.path, own.home)[1].ok
        assert verify_ledger(own.home.database, own.home.keys.log_public_key()).problems == ()

    def test_a_revoked_key_signs_nothing_more(self, own):
        admin = first_identity(own.home.database)
        with own.home.database.read() as connection:
            current = key_history(connection, CONTENT_KEY).current
        revoke_key(own.home.database, own.home.keys, digits=current.fingerprint, reason="a leak", actor=admin)
        with pytest.raises(RefusedError, match="was revoked on"):
            signing_keys(own.home)
        rotate_content_key(own.home, actor=admin)
        assert signing_keys(own.home)

    def test_a_root_that_only_lies_in_the_folder_is_not_trusted(self, own, tmp_path):
        stranger = Home.open(Settings.load(tmp_path / "stranger"))
        theirs = publish_files(stranger, tmp_path / "theirs", {"image-1.png": encoded(drawing(8), "PNG")})
        for name in ("content-root", "content-root-certificate"):
            own.home.keys.public_path(name).write_bytes(stranger.keys.public_path(name).read_bytes())
        assert outcomes(theirs.path, own.home)[0]["manifest"] is Outcome.FAILED

    def test_a_key_that_somebody_writes_into_the_database_is_not_trusted(self, own, tmp_path):
        stranger = Home.open(Settings.load(tmp_path / "stranger"))
        signing_keys(stranger)
        details = next(entry.details for entry in iter_entries(stranger.database) if entry.subject == "key:content-root")
        with own.home.database.unit_of_work() as uow:
            uow.append("key.created", "key:content-root", dict(details))
        with pytest.raises(IntegrityError):
            content_trust(own.home)

    def test_certificates_are_valid_from_what_the_clock_says(self, tmp_path):
        home = Home.open(Settings.load(tmp_path / "home"))
        long_ago = datetime.now(UTC) - timedelta(days=365 * 21)
        keys = signing_keys(home, clock=lambda: long_ago)
        signer, picture = ContentSigner(keys, producer="x"), encoded(drawing(1), "PNG")
        with pytest.raises(IntegrityError, match="cannot be signed"):
            signer.sign(MediaKind.PNG, picture, ANY, title="x")


def test_a_backup_brings_the_keys_and_what_was_signed_by_them(home_template, tmp_path):
    shutil.copytree(home_template, tmp_path / "home")
    home = Home.open(settings_of(tmp_path / "home"))
    made = publish_files(home, tmp_path, {"image.png": encoded(drawing(1), "PNG")})
    rotate_content_key(home, actor=first_identity(home.database))
    back_up(home, tmp_path / "backup.tar.gz", with_private_keys=True)
    restored = settings_of(tmp_path / "restored")
    restore(tmp_path / "backup.tar.gz", restored)
    again = Home.open(restored)
    assert outcomes(made.path, again)[1].ok
    assert signing_keys(again) == signing_keys(home)
    assert watermark_secrets(again) == watermark_secrets(home)
    home.database.close()
    again.database.close()
