"""The label in MP4 clips, put in and taken out by bytes: no frame is decoded or moved between tracks.

The label is a metadata key in a ``meta`` box of the ``moov`` box (ISO/IEC 14496-12, keys as QuickTime's), which is what FFmpeg
writes and reads with ``use_metadata_tags``. The XMP packet is a ``uuid`` box at the file's end.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from governance.credentials.label import KEY
from governance.errors import BadRecordError

_XMP_UUID = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
_MAX_BOXES = 100_000
_UTF8 = 1


class _Box(NamedTuple):
    """A box: its type, where it begins, where its content begins, where it ends."""

    name: bytes
    begin: int
    content: int
    end: int


class _Entry(NamedTuple):
    """A metadata key, as a whole box, and the content of its item."""

    key: bytes
    value: bytes


def embed_in_clip(data: bytes, label: str, packet: bytes) -> bytes:
    """Returns a clip with the label and the XMP packet.

    Args:
        data: The file.
        label: The label as JSON.
        packet: The XMP packet.

    Raises:
        BadRecordError: The file is malformed, or in fragments.
    """
    try:
        top = list(_boxes(data, 0, len(data)))
        moov = next((box for box in top if box.name == b"moov"), None)
        if moov is None or any(box.name == b"moof" for box in top):
            raise BadRecordError("the clip has no index, or is in fragments, and takes no label")
        kept, rest = _without_keys(data, moov)
        body = bytearray(rest + _meta([*kept, _Entry(_box(b"mdta", KEY.encode()), _text_value(label))]))
        if any(box.name == b"mdat" and box.begin > moov.begin for box in top):
            _move_chunks(body, moov.content + len(body) - moov.end, behind=moov.begin)
        header = struct.pack(">I4s", 8 + len(body), b"moov")
        xmp = b"uuid" + _XMP_UUID + packet
        return b"".join((data[: moov.begin], header, body, data[moov.end :], struct.pack(">I", 4 + len(xmp)), xmp))
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise BadRecordError("the file is no whole MP4") from error


def extract_from_clip(data: bytes) -> tuple[str | None, bytes | None]:
    """Returns the label and the XMP packet of a clip, None for what is not there.

    Raises:
        BadRecordError: The file is malformed.
    """
    try:
        packet = label = None
        for box in _boxes(data, 0, len(data)):
            if box.name == b"uuid" and data[box.content : box.content + 16] == _XMP_UUID:
                packet = data[box.content + 16 : box.end]
            elif box.name == b"moov":
                label = _label(data, box)
    except (struct.error, IndexError, ValueError) as error:
        raise BadRecordError("the file is no whole MP4") from error
    return label, packet


def _boxes(data: bytes | bytearray, begin: int, end: int) -> Iterator[_Box]:
    for _ in range(_MAX_BOXES):
        if end - begin < 8:  # QuickTime ends a list with four zeros
            return
        size, name = struct.unpack_from(">I4s", data, begin)
        content = begin + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = end if size == 0 else begin + size
        if not content <= stop <= end:
            raise BadRecordError("a box of the MP4 is cut off")
        yield _Box(bytes(name), begin, content, stop)
        begin = stop
    raise BadRecordError("the MP4 has too many boxes")


def _without_keys(data: bytes, box: _Box) -> tuple[list[_Entry], bytes]:
    """Returns the metadata keys in an index, or in its user data, but for the label; and its content without what holds them."""
    kept: list[_Entry] = []
    rest = b""
    for inner in _boxes(data, box.content, box.end):
        entries = _entries(data, inner) if inner.name == b"meta" else None
        if entries is not None:
            kept += [entry for entry in entries if entry.key[8:] != KEY.encode()]
        elif inner.name == b"udta":
            found, content = _without_keys(data, inner)
            kept += found
            rest += _box(inner.name, content)
        else:
            rest += data[inner.begin : inner.end]
    return kept, rest


def _entries(data: bytes, meta: _Box) -> list[_Entry] | None:
    """Returns the keys of a ``meta`` box with their values; None where it is one of another kind."""
    inner = {box.name: box for box in _boxes(data, meta.content + 4, meta.end)}
    if not {b"keys", b"ilst"} <= inner.keys():
        return None
    keys, items = inner[b"keys"], inner[b"ilst"]
    names = [data[box.begin : box.end] for box in _boxes(data, keys.content + 8, keys.end)]
    numbered = [(int.from_bytes(box.name, "big"), data[box.content : box.end]) for box in _boxes(data, items.content, items.end)]
    return [_Entry(names[number - 1], value) for number, value in numbered if 1 <= number <= len(names)]


def _meta(entries: list[_Entry]) -> bytes:
    """Returns a ``meta`` box with some keys."""
    handler = _full(b"hdlr", bytes(4) + b"mdta" + bytes(12) + b"\0")
    keys = _full(b"keys", struct.pack(">I", len(entries)) + b"".join(entry.key for entry in entries))
    items = (_box(struct.pack(">I", number), entry.value) for number, entry in enumerate(entries, start=1))
    return _full(b"meta", handler + keys + _box(b"ilst", b"".join(items)))


def _text_value(text: str) -> bytes:
    return _box(b"data", struct.pack(">II", _UTF8, 0) + text.encode())


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _full(name: bytes, content: bytes) -> bytes:
    return _box(name, bytes(4) + content)


def _move_chunks(moov: bytearray, by: int, *, behind: int) -> None:
    """Adds to the offsets of samples that lie behind the index, which has grown."""
    boxes = list(_boxes(moov, 0, len(moov)))
    while boxes:
        box = boxes.pop()
        if box.name in {b"trak", b"mdia", b"minf", b"stbl"}:
            boxes += _boxes(moov, box.content, box.end)
        elif box.name in {b"stco", b"co64"}:
            form = ">I" if box.name == b"stco" else ">Q"
            (count,) = struct.unpack_from(">I", moov, box.content + 4)
            for place in range(box.content + 8, box.content + 8 + count * struct.calcsize(form), struct.calcsize(form)):
                (offset,) = struct.unpack_from(form, moov, place)
                struct.pack_into(form, moov, place, offset + by if offset > behind else offset)


def _label(data: bytes, box: _Box) -> str | None:
    for inner in _boxes(data, box.content, box.end):
        if inner.name == b"udta" and (label := _label(data, inner)) is not None:
            return label
        for entry in (_entries(data, inner) if inner.name == b"meta" else None) or ():
            if entry.key[8:] == KEY.encode():
                value = next(_boxes(entry.value, 0, len(entry.value)), None)
                return entry.value[value.content + 8 : value.end].decode() if value else None
    return None
