"""Passphrases of people's private keys."""

import getpass
import os
import subprocess
import sys
from contextlib import suppress

import pytest

from infra import passphrases
from infra.errors import BackendUnavailableError, BadSettingError
from infra.key_pem import is_encrypted, read_private_key
from infra.keys import LOG_KEY, Keys
from infra.settings import PASSPHRASE_FILE

SECRET = "correct horse \u00e9"


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


@pytest.fixture
def typed(monkeypatch):
    """What somebody types at the terminal, in order; what is left was not asked for."""
    answers: list[str] = []
    monkeypatch.setattr(passphrases.sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr(getpass, "getpass", lambda prompt, stream: answers.pop(0))
    return answers


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "passphrase"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_FILE, str(path))
    return path


def test_a_key_with_a_passphrase_is_not_on_the_disk_in_clear(keys, typed):
    person = keys.create_person_key(SECRET.encode())
    assert person.path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert keys.has_passphrase(person.identity_id)
    typed += [SECRET]
    assert keys.person_private_key(person.identity_id).public_key()


def test_a_process_asks_once_and_after_a_wrong_answer_again(keys, typed):
    person = keys.create_person_key(SECRET.encode())
    typed += ["wrong", SECRET, "not asked for"]
    with pytest.raises(BadSettingError, match=rf"the passphrase of private key .*{person.identity_id}\.pem is wrong"):
        keys.person_private_key(person.identity_id)
    first = keys.person_private_key(person.identity_id)
    assert Keys(keys.folder).person_private_key(person.identity_id) is first
    assert typed == ["not asked for"]


def test_without_a_terminal_it_is_read_from_the_file(keys, file):
    person = keys.create_person_key(SECRET.encode())
    assert keys.person_private_key(person.identity_id)


def test_without_terminal_and_file_it_says_what_to_do(keys, monkeypatch):
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)
    person = keys.create_person_key(SECRET.encode())
    with pytest.raises(BadSettingError, match="no terminal") as caught:
        keys.person_private_key(person.identity_id)
    assert (caught.value.exit_code, PASSPHRASE_FILE in caught.value.hint) == (3, True)


def test_a_file_that_others_can_read_or_that_holds_no_passphrase_is_refused(keys, file):
    person = keys.create_person_key(SECRET.encode())
    for content, mode, match in [
        (SECRET, 0o640, "read by others"),
        ("\n", 0o600, "1 to 1,000"),
        ("x" * 1001, 0o600, "1 to 1,000"),
    ]:
        file.write_text(content)
        file.chmod(mode)
        with pytest.raises(BadSettingError, match=match):
            keys.person_private_key(person.identity_id)
    file.unlink()
    with pytest.raises(BadSettingError, match="cannot be read"):
        keys.person_private_key(person.identity_id)


def test_it_is_set_changed_and_removed_and_the_key_stays_the_same(keys, typed):
    person = keys.create_person_key()
    public = keys.person_private_key(person.identity_id).public_key()
    keys.set_passphrase(person.identity_id, b"first")
    typed += ["first"]
    keys.set_passphrase(person.identity_id, b"second")
    typed += ["first"]
    with pytest.raises(BadSettingError, match="is wrong"):
        keys.person_private_key(person.identity_id)
    typed += ["second"]
    keys.set_passphrase(person.identity_id, None)
    assert not keys.has_passphrase(person.identity_id)
    assert keys.person_private_key(person.identity_id).public_key() == public
    assert person.path.stat().st_mode & 0o777 == 0o600


def test_what_breaks_off_leaves_the_old_key(keys, monkeypatch):
    person = keys.create_person_key()
    before = person.path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(BackendUnavailableError, match="No space"):
                keys.set_passphrase(person.identity_id, b"new")
        assert person.path.read_bytes() == before
        assert not list(keys.folder.glob(".*"))


def test_another_persons_key_under_a_name_is_refused(keys):
    one, other = keys.create_person_key(), keys.create_person_key()
    one.path.write_bytes(other.path.read_bytes())
    with pytest.raises(BadSettingError, match=f"is the key of {other.identity_id}"):
        keys.person_private_key(one.identity_id)


def test_the_platforms_own_keys_have_no_passphrase(keys, typed):
    person = keys.create_person_key(SECRET.encode())
    keys.private_path(LOG_KEY).write_bytes(person.path.read_bytes())
    assert is_encrypted(keys.private_path(LOG_KEY))
    with pytest.raises(BadSettingError, match="has a passphrase"):
        read_private_key(keys.private_path(LOG_KEY))


def test_a_new_one_is_asked_for_twice(typed):
    typed += [SECRET, SECRET]
    assert passphrases.ask_new_passphrase("key") == SECRET.encode()
    typed += ["one", "two"]
    with pytest.raises(BadSettingError, match="differ"):
        passphrases.ask_new_passphrase("key")
    typed += [""]
    with pytest.raises(BadSettingError, match="1 to 1,000"):
        passphrases.ask_new_passphrase("key")


def test_it_is_not_shown_on_a_terminal():
    reader, terminal = os.openpty()
    code = "from infra.passphrases import ask_new_passphrase as ask; print(len(ask('key x')))"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    shown = b""
    for prompt in (b"new passphrase of key x: ", b"the same again: "):
        while not shown.endswith(prompt):
            shown += os.read(reader, 1000)
        os.write(reader, b"hunter22\n")
    with suppress(OSError):  # the child has closed the terminal
        while True:
            shown += os.read(reader, 1000)
    os.close(reader)
    assert child.wait() == 0
    assert shown.endswith(b"8\r\n")
    assert b"hunter22" not in shown
