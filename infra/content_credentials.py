"""Content credentials in files: the label and the signed manifest that generated files carry, written and read through c2pa.

A manifest holds an ECDSA signature, which is another one each time, and the moment of signing. So the same seed gives the same
pixels, and not the same file.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from governance.credentials.claim import Claim, manifest_definition
from governance.credentials.ingredient import Ingredient
from governance.credentials.label import AigcLabel, produce_id
from governance.credentials.marking import mark
from governance.credentials.media_kind import MediaKind
from governance.credentials.reading import ManifestReading, ManifestState, judge
from governance.errors import IntegrityError
from governance.ledger import format_time
from infra.content_keys import ContentKeys
from infra.media_reading import read_file
from infra.whole_file import whole_file

_MAX_CARRIED = 1 << 20
"""How many bytes the manifests of a file may have together, those of what it was made from included."""
_PUBLIC = 0o666  # what the user's mask leaves of it, as of any file


@dataclass(frozen=True, kw_only=True)
class SignedFile:
    """A file with credentials.

    Attributes:
        path: Where it is.
        sha256: SHA-256 of its bytes.
        num_bytes: How many there are.
    """

    path: Path
    sha256: str
    num_bytes: int


class ContentSigner:
    """Signs files; one for many of them, because the key is read once.

    Args:
        keys: What to sign with.
        producer: Who makes the content, as the label of GB 45438-2025 says it.
        clock: Says when a file was made.
    """

    def __init__(self, keys: ContentKeys, *, producer: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        import c2pa  # type: ignore[import-untyped]

        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, keys.certificate_pem.encode(), keys.private_key_pem.encode(), None)
        self._context = _context(keys.root_pem, signer=c2pa.Signer.from_info(info))
        self._producer = producer
        self._clock = clock
        self._version = metadata.version("groundswell")

    def sign(self, kind: MediaKind, data: bytes, claim: Claim, *, title: str, ingredient: Ingredient | None = None) -> bytes:
        """Returns a file with its label and its manifest, which covers the label.

        The manifest of an ingredient is carried along, with what c2pa finds of it now. Where it cannot be read, or is larger than
        is carried, the ingredient stands in the manifest without it.

        Args:
            kind: What it is.
            data: Its bytes.
            claim: Where it came from.
            title: Its name.
            ingredient: What it was made from, which is the source of the claim.

        Raises:
            BadRecordError: It is malformed.
            IntegrityError: It cannot be signed, or what was signed does not verify.
        """
        label = AigcLabel(
            producer=self._producer, produce_id=produce_id(claim.run_id, claim.position), integrity=claim.pixels_sha256
        )
        created = format_time(self._clock())
        definition = manifest_definition(claim, title=title, generator_version=self._version, created=created)
        marked = mark(kind, data, label, source_type=claim.digital_source_type)
        if ingredient is not None:
            signed = self._signed(kind, marked, definition, title=title, carried=ingredient)
            if signed is not None and len(signed) <= len(marked) + _MAX_CARRIED:
                return signed
            definition["ingredients"] = [ingredient.definition()]
        return self._signed(kind, marked, definition, title=title) or b""

    def _signed(
        self, kind: MediaKind, data: bytes, definition: dict[str, Any], *, title: str, carried: Ingredient | None = None
    ) -> bytes | None:
        """Returns a file with a manifest; None where what is to be carried along cannot be read."""
        import c2pa

        signed = io.BytesIO()
        try:
            with c2pa.Builder(definition, self._context) as builder:
                if carried is not None:
                    try:
                        builder.add_ingredient(carried.definition(), carried.media_type, io.BytesIO(carried.data))
                    except c2pa.C2paError:
                        return None
                builder.sign(kind.mime_type, io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise IntegrityError(f"{title} cannot be signed: {error!s:.200}") from error
        return signed.getvalue()

    def sign_file(self, source: Path, target: Path, claim: Claim, *, ingredient: Ingredient | None = None) -> SignedFile:
        """Writes a file with credentials; it has its name once it is whole, or not at all.

        Args:
            source: The file without them.
            target: Where to; the folder is there.
            claim: Where it came from.
            ingredient: What it was made from, which is the source of the claim.

        Raises:
            BadRecordError: The source is no picture or clip.
            BadSettingError: The target cannot be written.
            IntegrityError: It cannot be signed.
        """
        file = read_file(source)
        data = self.sign(file.kind, file.data, claim, title=target.name, ingredient=ingredient)
        with whole_file(target, mode=_PUBLIC) as out:
            out.write(data)
        return SignedFile(path=target, sha256=hashlib.sha256(data).hexdigest(), num_bytes=len(data))


def read_manifest(kind: MediaKind, data: bytes, *, root_pem: str | None) -> ManifestReading:
    """Reads and validates the manifest of a file; nothing is fetched from anywhere.

    Args:
        kind: What the file is.
        data: Its bytes.
        root_pem: The certificate of the root to trust; None to trust nobody.
    """
    import c2pa

    try:
        reader = c2pa.Reader.try_create(kind.mime_type, io.BytesIO(data), context=_context(root_pem))
        if reader is None:
            return ManifestReading(state=ManifestState.ABSENT)
        with reader:
            store: Any = json.loads(reader.json())
    except (c2pa.C2paError, ValueError) as error:
        return ManifestReading(state=ManifestState.BROKEN, reason=f"it cannot be read: {error!s:.200}")
    return judge(store)


def _context(root_pem: str | None, *, signer: Any = None) -> Any:
    """Returns what c2pa works by: one trust anchor or none, no network, no thumbnails, which take longer than all the rest."""
    import c2pa

    settings = {
        "version": 1,
        "trust": {"trust_anchors": root_pem} if root_pem else {},
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
        "builder": {"thumbnail": {"enabled": False}},
    }
    return c2pa.Context(c2pa.Settings.from_dict(settings), signer=signer)
