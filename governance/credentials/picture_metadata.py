"""XMP packets in pictures, put in and taken out by bytes: no pixel is decoded, so none changes.

Where a packet stands follows Adobe's XMP specification, part 3: an ``iTXt`` chunk in PNG, an ``APP1`` segment in JPEG, an ``XMP``
chunk in WebP, an application extension in GIF. A packet that is there already is replaced.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from governance.credentials.media_kind import MediaKind
from governance.errors import BadRecordError

_PNG_KEYWORD = b"XML:com.adobe.xmp\0"
_JPEG_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_SEGMENT = 0xFFFF - 2
_GIF_HEADER = b"\x21\xff\x0bXMP DataXMP"
# A reader that skips sub-blocks by their lengths lands in here somewhere, and is led to the end.
_GIF_TRAILER = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\x00"
_WEBP_XMP, _WEBP_ALPHA = 0x04, 0x10


class _Part(NamedTuple):
    """A chunk or segment: its name, its content, and all its bytes."""

    name: bytes
    content: bytes
    raw: bytes


def embed_xmp(kind: MediaKind, data: bytes, packet: bytes) -> bytes:
    """Returns a picture with an XMP packet.

    Args:
        kind: What it is; not MP4.
        data: The file.
        packet: The packet.

    Raises:
        BadRecordError: The file is malformed, or the packet too long.
    """
    try:
        return _EMBED[kind](data, packet)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise BadRecordError(f"the file is no whole {kind.name}") from error


def extract_xmp(kind: MediaKind, data: bytes) -> bytes | None:
    """Returns the XMP packet of a picture, None where there is none.

    Raises:
        BadRecordError: The file is malformed.
    """
    try:
        return _EXTRACT[kind](data)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise BadRecordError(f"the file is no whole {kind.name}") from error


def _png_chunks(data: bytes) -> Iterator[_Part]:
    place = 8
    while place < len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise BadRecordError("a chunk of the PNG is cut off")
        yield _Part(name, data[place + 8 : place + 8 + length], data[place:end])
        if name == b"IEND":
            return
        place = end


def _is_png_xmp(part: _Part) -> bool:
    return part.name == b"iTXt" and part.content.startswith(_PNG_KEYWORD)


def _embed_png(data: bytes, packet: bytes) -> bytes:
    content = _PNG_KEYWORD + b"\0\0\0\0" + packet  # not compressed, no language, no translated keyword
    body = b"iTXt" + content
    chunk = struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    header, *rest = (part.raw for part in _png_chunks(data) if not _is_png_xmp(part))
    return data[:8] + header + chunk + b"".join(rest)


def _extract_png(data: bytes) -> bytes | None:
    for part in filter(_is_png_xmp, _png_chunks(data)):
        rest = part.content[len(_PNG_KEYWORD) :]
        if rest[:1] == b"\0":
            return rest[2:].split(b"\0", 2)[2]
    return None


def _jpeg_segments(data: bytes) -> Iterator[_Part]:
    """Yields the segments before the scan, and then the rest of the file as one part without a name."""
    place = 2
    while data[place] == 0xFF and data[place + 1] not in {0xDA, 0xD9, 0xFF}:
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        yield _Part(data[place + 1 : place + 2], data[place + 4 : end], data[place:end])
        place = end
    yield _Part(b"", b"", data[place:])


def _is_jpeg_xmp(part: _Part) -> bool:
    return part.name == b"\xe1" and part.content.startswith(_JPEG_HEADER)


def _embed_jpeg(data: bytes, packet: bytes) -> bytes:
    content = _JPEG_HEADER + packet
    if len(content) > _MAX_SEGMENT:
        raise BadRecordError("the XMP packet does not fit into a JPEG segment")
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    parts = [part for part in _jpeg_segments(data) if not _is_jpeg_xmp(part)]
    first = 1 if parts[0].name == b"\xe0" else 0  # JFIF's segment stays the first
    return data[:2] + b"".join([*(part.raw for part in parts[:first]), segment, *(part.raw for part in parts[first:])])


def _extract_jpeg(data: bytes) -> bytes | None:
    return next((part.content[len(_JPEG_HEADER) :] for part in _jpeg_segments(data) if _is_jpeg_xmp(part)), None)


def _webp_chunks(data: bytes) -> Iterator[_Part]:
    (size,) = struct.unpack_from("<I", data, 4)
    place, stop = 12, min(len(data), 8 + size)
    while place < stop:
        name, length = struct.unpack_from("<4sI", data, place)
        end = place + 8 + length + length % 2
        yield _Part(name, data[place + 8 : place + 8 + length], data[place:end])
        place = end


def _embed_webp(data: bytes, packet: bytes) -> bytes:
    chunks = [part for part in _webp_chunks(data) if part.name not in {b"XMP ", b"VP8X"}]
    extended = next((part.content for part in _webp_chunks(data) if part.name == b"VP8X"), None) or _webp_canvas(chunks[0])
    header = _webp_chunk(b"VP8X", bytes([extended[0] | _WEBP_XMP]) + extended[1:])
    body = b"WEBP" + header + b"".join(part.raw for part in chunks) + _webp_chunk(b"XMP ", packet)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _webp_canvas(image: _Part) -> bytes:
    """Returns the content of an extended header for a file that has none: flags, and the picture's size less one."""
    if image.name == b"VP8L":
        (bits,) = struct.unpack_from("<I", image.content, 1)
        width, height, has_alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bits >> 28 & 1
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", image.content, 6))
        has_alpha = 0
    flags, *sizes = _WEBP_ALPHA * int(has_alpha), int(width) - 1, int(height) - 1
    return struct.pack("<I", flags) + b"".join(size.to_bytes(3, "little") for size in sizes)


def _extract_webp(data: bytes) -> bytes | None:
    return next((part.content for part in _webp_chunks(data) if part.name == b"XMP "), None)


def _gif_start(data: bytes) -> int:
    """Returns where the blocks begin: behind the screen's description and the palette."""
    flags = data[10]
    return 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)


def _gif_xmp(data: bytes) -> tuple[int, int] | None:
    """Returns where the XMP extension begins and ends; the blocks before it are walked, so that no pixels are taken for one."""
    place = _gif_start(data)
    while data[place] == 0x21:
        begin = place
        place += 2
        while data[place]:
            place += data[place] + 1
        place += 1
        if data.startswith(_GIF_HEADER, begin):
            return begin, place
    return None


def _embed_gif(data: bytes, packet: bytes) -> bytes:
    if found := _gif_xmp(data):
        data = data[: found[0]] + data[found[1] :]
    start = _gif_start(data)
    header = b"GIF89a" + data[6:start]  # extensions came with 89a
    return header + _GIF_HEADER + packet + _GIF_TRAILER + data[start:]


def _extract_gif(data: bytes) -> bytes | None:
    found = _gif_xmp(data)
    return data[found[0] + len(_GIF_HEADER) : found[1] - len(_GIF_TRAILER)] if found else None


_EMBED = {
    MediaKind.PNG: _embed_png,
    MediaKind.JPEG: _embed_jpeg,
    MediaKind.WEBP: _embed_webp,
    MediaKind.GIF: _embed_gif,
}
_EXTRACT = {
    MediaKind.PNG: _extract_png,
    MediaKind.JPEG: _extract_jpeg,
    MediaKind.WEBP: _extract_webp,
    MediaKind.GIF: _extract_gif,
}
