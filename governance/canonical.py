"""RFC 8785 canonical JSON: one value, one sequence of bytes, so that a digest of it means something."""

import hashlib
import json
from typing import Any, NoReturn

import rfc8785

from governance.errors import BadRecordError, IntegrityError

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64
_PLAIN_DIGITS = len(str(MAX_INTEGER)) - 1


def canonical_json(value: Any, *, floats: bool = False) -> bytes:
    """Returns the RFC 8785 form of a JSON value.

    Args:
        value: Mappings with string keys, lists, tuples, strings, integers, booleans and None.
        floats: Whether finite floats may occur. The ledger takes none: there decimals are strings, see `decimals`.

    Raises:
        BadRecordError: The value holds something that has no canonical form: a float, an integer of 2^53 or more, a
            key that is no string, a lone surrogate, another type, or too deep a nesting.
    """
    try:
        checked = _checked(value, floats=floats, path="$", depth=0)
        return (None if floats else _plain_form(checked)) or rfc8785.dumps(checked)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise BadRecordError(f"a record has no canonical JSON form: {error}") from error


def canonical_text(value: Any, *, floats: bool = False) -> str:
    """Returns `canonical_json` as a string, for a text column."""
    return canonical_json(value, floats=floats).decode()


def canonical_digest(value: Any, *, floats: bool = False) -> str:
    """Returns the SHA-256 of `canonical_json`, in hex."""
    return hashlib.sha256(canonical_json(value, floats=floats)).hexdigest()


def decimals(value: Any) -> Any:
    """Returns a value with each float replaced by its shortest decimal string (``0.1`` becomes ``"0.1"``).

    A float without a fraction becomes the integer, as RFC 8785 writes it, so that a value read back from JSON gives the same.
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= MAX_INTEGER else repr(value)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return repr(float(value))
    if isinstance(value, dict):
        return {key: decimals(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [decimals(item) for item in value]
    return value


def parse_canonical(data: bytes, *, floats: bool = False) -> Any:
    """Parses JSON that must already be in canonical form: ``canonical_json(parse_canonical(b)) == b``.

    Args:
        data: UTF-8 bytes.
        floats: Whether floats may occur.

    Raises:
        IntegrityError: The bytes are not UTF-8, not JSON, or not canonical (spaces, key order, duplicate keys, floats,
            large integers, needless escapes).
    """
    if (value := _parse_plain(data)) is not None:
        return value
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
        rendered = canonical_json(value, floats=floats)
    except (ValueError, RecursionError, BadRecordError) as error:
        raise IntegrityError(f"not canonical JSON: {_one_line(error)}") from error
    if rendered != data:
        raise IntegrityError("not canonical JSON: the bytes differ from the RFC 8785 form of what they say")
    return value


def _checked(value: Any, *, floats: bool, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise BadRecordError(f"a record is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise BadRecordError(f"a record's key is no string: {key!r} in {path}")
        return {key: _checked(item, floats=floats, path=f"{path}.{key}", depth=depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(item, floats=floats, path=f"{path}[{i}]", depth=depth + 1) for i, item in enumerate(value)]
    if isinstance(value, float) and not floats:
        raise BadRecordError(f"a record holds a float at {path}: {value!r}", hint="write decimals as strings")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_INTEGER:
        raise BadRecordError(f"a record holds an integer of 2^53 or more at {path}", hint="write large numbers as strings")
    return value


def _parse_plain(data: bytes) -> Any:
    """Parses canonical JSON of the plain kind that nearly all records are; None for everything else.

    The standard library's encoder, sorted and without spaces, writes RFC 8785 for values without floats whose keys and texts are
    ASCII: the order of keys is that of their UTF-16 then, and both escape the same characters in the same way. Where it gives
    back the bytes that were read, they are canonical. It is written in C, and so several times as fast as a check in Python.
    """
    if not data.isascii() or data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        return None
    text = data.decode("ascii")
    try:
        value, _ = _PLAIN_DECODER.raw_decode(text)  # what stands behind it is seen by the comparison
        return value if _PLAIN_ENCODER.encode(value) == text else None
    except (ValueError, RecursionError):
        return None


def _plain_form(value: Any) -> bytes | None:
    """Returns the canonical form of a checked value without floats if that is ASCII, see `_parse_plain`; otherwise None."""
    try:
        text = _PLAIN_ENCODER.encode(value)
    except TypeError:
        return None
    return text.encode() if text.isascii() else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _plain_integer(digits: str) -> int:
    if len(digits) > _PLAIN_DIGITS:
        raise ValueError(f"{digits} may be too large")
    return int(digits)


_PLAIN_DECODER = json.JSONDecoder(parse_float=_refuse_constant, parse_int=_plain_integer, parse_constant=_refuse_constant)
_PLAIN_ENCODER = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
