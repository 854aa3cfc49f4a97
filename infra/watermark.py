"""The watermark of what a home generates: its key, the id that it bears, and finding it again.

Both secrets follow from the private key of ``content-root`` by HKDF-SHA256 (RFC 5869) and are written nowhere. That key is
there whenever a file is signed, is backed up with the others, and is never rotated: what was marked once is found for as long as
the home has its keys. Who has no more than the ledger and the public keys finds no mark.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.content_keys import signing_keys
from infra.derived_secret import derived_secret

if TYPE_CHECKING:
    from infra.home import Home
    from model_core.watermark import Detection
    from model_core.watermark.frames import Frames

_KEY_USE = b"groundswell watermark key 1"
_ID_USE = b"groundswell watermark id 1"


@dataclass(frozen=True, kw_only=True)
class WatermarkSecrets:
    """What marks are made with.

    Attributes:
        key: Draws the pattern, see `model_core.watermark`.
        id_key: Makes ids.
    """

    key: bytes = field(repr=False)
    id_key: bytes = field(repr=False)

    def id_of(self, frames: "Frames", root_digest: str) -> bytes:
        """Returns the id that pixels of a model bear: six bytes of HMAC-SHA256 over the model's package and the pixels before
        they are marked.

        The same model, request and seed give the same pixels and so the same id, whichever settings decide them; a request
        cannot be guessed from an id by who has the key and not the model.

        Args:
            frames: RGB pixels, uint8 [frames height width 3].
            root_digest: The root digest of the model's package.
        """
        from model_core.watermark import PAYLOAD_BYTES

        code = hmac.new(self.id_key, f"{root_digest} {' '.join(map(str, frames.shape))}\n".encode(), hashlib.sha256)
        code.update(frames.tobytes())
        return code.digest()[:PAYLOAD_BYTES]


@dataclass(frozen=True, kw_only=True)
class Watermarker:
    """Marks what one model makes.

    Attributes:
        secrets: What with.
        root_digest: The root digest of the model's package.
    """

    secrets: WatermarkSecrets
    root_digest: str

    def mark(self, frames: "Frames", watermark_id: str | None = None) -> "tuple[Frames, str | None]":
        """Returns frames as they are handed out, and the id that is in them in hex.

        Args:
            frames: RGB pixels, uint8 [frames height width 3].
            watermark_id: The id of the clip's frames before these, in hex, which these get, too; the frames' own if not given.

        Returns:
            The frames as they are where they are too small to bear a mark; no id where they are too small to bear one.
        """
        from model_core.watermark import Room, embed, room_in

        if watermark_id is not None:
            return embed(frames, self.secrets.key, bytes.fromhex(watermark_id)), watermark_id
        room = room_in(*frames.shape[:3])
        if room is Room.NOTHING:
            return frames, None
        payload = self.secrets.id_of(frames, self.root_digest) if room is Room.ID else None
        return embed(frames, self.secrets.key, payload), payload.hex() if payload else None


def open_watermarker(home: "Home", root_digest: str) -> Watermarker:
    """Returns what marks the pixels of a model.

    Args:
        home: The home.
        root_digest: The root digest of the model's package.

    Raises:
        BadSettingError: The keys of content credentials are not here.
        RefusedError: The key that signs files was revoked.
        IntegrityError: What the ledger says of the keys breaks a rule.
    """
    signing_keys(home)  # makes them where there are none yet
    return Watermarker(secrets=watermark_secrets(home), root_digest=root_digest)


def watermark_secrets(home: "Home") -> WatermarkSecrets:
    """Returns what the marks of a home are made with and found by.

    Raises:
        BadSettingError: The private key of ``content-root`` is missing, unreadable, or not the one that the ledger names.
        IntegrityError: What the ledger says of the keys breaks a rule.
    """
    return WatermarkSecrets(key=derived_secret(home, _KEY_USE), id_key=derived_secret(home, _ID_USE))


def find_mark(frames: "Frames", secrets: WatermarkSecrets) -> "Detection":
    """Looks for a home's mark in pixels, uint8 [frames height width 3]."""
    from model_core.watermark import detect

    return detect(frames, secrets.key)
