"""The keys of a home."""

import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from governance.errors import IntegrityError
from governance.identity import identity_id_of
from infra.errors import BackendUnavailableError, BadSettingError
from infra.key_pem import read_log_public_key, read_private_key
from infra.keys import LOG_KEY, PACKAGE_KEY, Keys


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


def test_private_keys_are_for_their_owner_only(keys):
    person = keys.create_person_key()
    for name in (LOG_KEY, PACKAGE_KEY, person.identity_id):
        assert stat.S_IMODE(keys.private_path(name).stat().st_mode) == 0o600
        assert keys.public_path(name).read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert not list(keys.folder.rglob(".*")), "no temporary file stays"


def test_the_kinds_of_keys_are_those_of_the_design(keys):
    assert keys.log_private_key().public_key() == keys.log_public_key()
    package = read_private_key(keys.private_path(PACKAGE_KEY))
    assert isinstance(package, ec.EllipticCurvePrivateKey)
    assert package.curve.name == "secp256r1"


def test_making_them_again_changes_nothing(keys):
    before = {path: path.read_bytes() for path in keys.folder.rglob("*.pem")}
    Keys.create(keys.folder)
    assert {path: path.read_bytes() for path in keys.folder.rglob("*.pem")} == before


def test_processes_that_make_a_home_at_once_agree(tmp_path):
    code = "import sys; from pathlib import Path; from infra.keys import Keys; Keys.create(Path(sys.argv[1]))"
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "keys")]) for _ in range(4)]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 4
    keys = Keys(tmp_path / "keys")
    assert keys.log_private_key().public_key() == keys.log_public_key()


def test_a_persons_id_follows_from_the_key(keys):
    person = keys.create_person_key()
    public = serialization.load_pem_public_key(person.public_key_pem.encode())
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert person.identity_id == identity_id_of(der)
    assert keys.person_private_key(person.identity_id).public_key() == public
    keys.discard_person_key(person.identity_id)
    assert not keys.private_path(person.identity_id).exists()


def test_a_private_key_that_others_can_read_is_refused(keys):
    keys.private_path(LOG_KEY).chmod(0o644)
    with pytest.raises(BadSettingError, match="read by others") as caught:
        keys.log_private_key()
    assert caught.value.hint.startswith("chmod 600")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_files_that_are_no_keys_are_refused(keys, content):
    for path, read in ((keys.private_path(LOG_KEY), read_private_key), (keys.public_path(LOG_KEY), read_log_public_key)):
        path.write_bytes(content)
        with pytest.raises(BadSettingError, match="PEM"):
            read(path)


def test_keys_of_another_kind_are_refused(keys):
    keys.private_path(LOG_KEY).write_bytes(keys.private_path(PACKAGE_KEY).read_bytes())
    keys.public_path(LOG_KEY).write_bytes(keys.public_path(PACKAGE_KEY).read_bytes())
    with pytest.raises(BadSettingError, match="Ed25519"):
        keys.log_private_key()
    with pytest.raises(BadSettingError, match="Ed25519"):
        keys.log_public_key()


def test_a_lost_private_key_is_not_replaced_in_silence(keys):
    keys.private_path(LOG_KEY).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        Keys.create(keys.folder)


@pytest.mark.parametrize("name", ["../log", "id-../../x", "", "Ada", "id-0123456789ABCDEF"])
def test_names_that_are_no_keys_are_refused(keys, name):
    with pytest.raises(BadSettingError, match="no key"):
        keys.private_path(name)


def test_a_folder_that_cannot_be_made_is_an_unavailable_backend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendUnavailableError, match="cannot be made"):
        Keys.create(tmp_path / "file" / "keys")
