"""Where the passphrase of a private key comes from: whoever sits at the terminal, otherwise a file that the settings name."""

import getpass
import sys
import warnings
from pathlib import Path

from infra.errors import BadSettingError
from infra.key_files import read_private_file
from infra.settings import PASSPHRASE_FILE, passphrase_file

_MAX_BYTES = 1000  # OpenSSL takes 1,023
_HINT = f"run it on a terminal, or name a file with the passphrase (chmod 600): {PASSPHRASE_FILE}"


def ask_passphrase(what: str) -> bytes:
    """Returns the passphrase of a key that has one.

    Args:
        what: The key, as the prompt names it.

    Raises:
        BadSettingError: There is neither a terminal nor a file; or the file cannot be read, is readable by others, or is empty.
    """
    return _checked(_prompted(f"passphrase of {what}: ")) if sys.stdin.isatty() else _of_settings(what)


def ask_new_passphrase(what: str) -> bytes:
    """Returns the passphrase that a key is to have; on a terminal it is asked for twice.

    Args:
        what: The key, as the prompt names it.

    Raises:
        BadSettingError: As for `ask_passphrase`; or what was typed the second time is something else.
    """
    if not sys.stdin.isatty():
        return _of_settings(what)
    given = _checked(_prompted(f"new passphrase of {what}: "))
    if _prompted("the same again: ") != given:
        raise BadSettingError("the two passphrases differ", hint="nothing was changed; try again")
    return given


def require_terminal(hint: str) -> None:
    """Checks that somebody can be asked.

    Raises:
        BadSettingError: This is no terminal; with the hint.
    """
    if not sys.stdin.isatty():
        raise BadSettingError("nobody can be asked for a new passphrase: this is no terminal", hint=hint)


def read_passphrase(path: Path) -> bytes:
    """Returns the passphrase in a file, without the line's end.

    Raises:
        BadSettingError: The file cannot be read, is readable by others, is empty, or holds more than a passphrase.
    """
    return _checked(read_private_file(path, "passphrase file").removesuffix(b"\n").removesuffix(b"\r"))


def _prompted(prompt: str) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would be shown while it is typed
            return getpass.getpass(prompt, stream=sys.stderr).encode()
    except (EOFError, UnicodeEncodeError, getpass.GetPassWarning) as error:
        raise BadSettingError("no passphrase was given", hint="nothing was changed; try again") from error


def _of_settings(what: str) -> bytes:
    path = passphrase_file()
    if path is None:
        raise BadSettingError(f"nobody can be asked for the passphrase of {what}: this is no terminal", hint=_HINT)
    return read_passphrase(path)


def _checked(passphrase: bytes) -> bytes:
    if not 0 < len(passphrase) <= _MAX_BYTES:
        raise BadSettingError(f"a passphrase has 1 to {_MAX_BYTES:,} bytes, not {len(passphrase):,}", hint="choose another")
    return passphrase
