"""Files of OpenLineage events: one event, a JSON array of them, or one after another as in JSON lines; read as a stream."""

import codecs
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from governance.errors import BadRecordError, GovernanceError
from governance.lineage import Event
from governance.openlineage import check_event

MAX_EVENT_CHARACTERS = 1 << 20
_CHUNK_BYTES = 1 << 16
_SPACE = re.compile(r"[ \t\r\n]*")
_BYTE_ORDER_MARK = "\ufeff"
_HINT = "a file holds one OpenLineage event, a JSON array of them, or one a line"


@dataclass(frozen=True, kw_only=True)
class ReadEvent:
    """An event of a file.

    Attributes:
        line: The line on which it begins, from 1.
        event: The event, checked.
        num_characters: How long it is in the file.
    """

    line: int
    event: Event
    num_characters: int


class EventReader:
    """Reads the events of a file, a bounded part of it in memory at a time.

    Args:
        file: A file at its beginning.
        name: What to call it in errors.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._digest = hashlib.sha256()
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text, self._position, self._line, self._is_whole = "", 0, 1, False
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """The digest of what was read so far: of the file, once its last event was."""
        return self._digest.hexdigest()

    def events(self) -> Iterator[ReadEvent]:
        """Yields each event.

        Raises:
            BadRecordError: The file is no text, or holds what is no event; the diagnosis names the line.
        """
        if self._next() == _BYTE_ORDER_MARK:
            self._position += 1
        in_array = self._next() == "["
        self._position += in_array
        is_first = True
        while (character := self._next()) and not (in_array and character == "]"):
            if in_array and not is_first:
                if character != ",":
                    self._refuse("a comma is missing between two events")
                self._position += 1
                self._next()
            line, (value, num_characters) = self._line, self._value()
            try:
                event = check_event(value)
            except GovernanceError as error:
                raise BadRecordError(f"{self._name}, line {line}: {error.diagnosis}", hint=error.hint or _HINT) from error
            yield ReadEvent(line=line, event=event, num_characters=num_characters)
            is_first = False
        if in_array:
            if not character:
                self._refuse("the array has no end: the file was cut off")
            self._position += 1
            if self._next():
                self._refuse("there is more after the array's end")

    def _next(self) -> str:
        """Skips white space and returns the character after it, the empty string at the end."""
        while True:
            self._move(_SPACE.match(self._text, self._position).end())  # type: ignore[union-attr]  # it matches nothing, too
            if self._position < len(self._text):
                return self._text[self._position]
            if self._is_whole:
                return ""
            self._fill()

    def _move(self, position: int) -> None:
        self._line += self._text.count("\n", self._position, position)
        self._position = position

    def _fill(self) -> None:
        """Reads on, and forgets what was passed."""
        data = self._file.read(_CHUNK_BYTES)
        self._digest.update(data)
        self.size_bytes += len(data)
        self._is_whole = not data
        try:
            more = self._decode.decode(data, final=self._is_whole)
        except UnicodeDecodeError:
            self._refuse("it is no UTF-8 text")
        self._text, self._position = self._text[self._position :] + more, 0

    def _value(self) -> tuple[Any, int]:
        if self._text[self._position : self._position + 1] != "{":
            self._refuse("no event begins here")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except JSONDecodeError as error:
                if self._is_whole or len(self._text) - self._position > MAX_EVENT_CHARACTERS:
                    self._refuse_json(error)
            except RecursionError:
                self._refuse("it is nested too deeply")
            except ValueError:
                self._refuse("it holds a number that is too long")
            except BadRecordError as error:
                self._refuse(error.diagnosis)
            else:
                num_characters = end - self._position
                if num_characters > MAX_EVENT_CHARACTERS:
                    self._refuse_size()
                self._move(end)
                return value, num_characters
            self._fill()

    def _refuse_json(self, error: JSONDecodeError) -> NoReturn:
        if not self._is_whole and (error.pos >= len(self._text) - 1 or error.msg.startswith("Unterminated")):
            self._refuse_size()
        self._move(max(self._position, min(error.pos, len(self._text))))
        self._refuse(f"it is no JSON: {error.msg[:1].lower()}{error.msg[1:]}")

    def _refuse_size(self) -> NoReturn:
        self._refuse(f"an event is larger than {MAX_EVENT_CHARACTERS >> 20} MiB")

    def _refuse(self, problem: str) -> NoReturn:
        raise BadRecordError(f"{self._name}, line {self._line}: {problem}", hint=_HINT)


@contextmanager
def open_events(path: Path) -> Iterator[BinaryIO]:
    """Opens a file of events; a link, a folder and whatever else is no regular file is refused without waiting for it.

    Raises:
        BadRecordError: It is no regular file.
        OSError: It cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise BadRecordError(f"{path} is a link", hint="name the file that it points to") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadRecordError(f"{path} is no regular file", hint=_HINT)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRecordError("an object in it names a key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise BadRecordError(f"it holds {name}, which is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
