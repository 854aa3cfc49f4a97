"""The kinds of files that carry content credentials, told apart by their first bytes and never by their names."""

from enum import Enum


class MediaKind(Enum):
    """A kind of file."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    WEBP = "image/webp"
    GIF = "image/gif"
    MP4 = "video/mp4"

    @property
    def mime_type(self) -> str:
        """The media type."""
        return str(self.value)


def sniff(head: bytes) -> MediaKind | None:
    """Returns the kind of a file by its first 12 bytes or more; None for what is none of them."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return MediaKind.PNG
    if head.startswith(b"\xff\xd8\xff"):
        return MediaKind.JPEG
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return MediaKind.WEBP
    if head.startswith((b"GIF87a", b"GIF89a")):
        return MediaKind.GIF
    return MediaKind.MP4 if head[4:8] == b"ftyp" else None
