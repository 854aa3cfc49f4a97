"""The label of generated content in any kind of file, by one call each."""

from governance.credentials.claim import DIGITAL_SOURCE_TYPE
from governance.credentials.clip_metadata import embed_in_clip, extract_from_clip
from governance.credentials.label import AigcLabel, parse_label, parse_xmp, xmp_packet
from governance.credentials.media_kind import MediaKind
from governance.credentials.picture_metadata import embed_xmp, extract_xmp


def mark(kind: MediaKind, data: bytes, label: AigcLabel, *, source_type: str = DIGITAL_SOURCE_TYPE) -> bytes:
    """Returns a file with the label of GB 45438-2025 and IPTC's digital source type; its pixels are untouched.

    Raises:
        BadRecordError: The file is malformed.
    """
    packet = xmp_packet(label, source_type=source_type)
    return embed_in_clip(data, label.to_json(), packet) if kind is MediaKind.MP4 else embed_xmp(kind, data, packet)


def read_mark(kind: MediaKind, data: bytes) -> tuple[AigcLabel | None, str | None]:
    """Returns the label and the digital source type of a file, None for what is not there.

    Raises:
        BadRecordError: The file, its metadata or its label is malformed.
    """
    text, packet = extract_from_clip(data) if kind is MediaKind.MP4 else (None, extract_xmp(kind, data))
    in_xmp, source_type = parse_xmp(packet) if packet is not None else (None, None)
    text = in_xmp if text is None else text
    return (parse_label(text) if text is not None else None), source_type
