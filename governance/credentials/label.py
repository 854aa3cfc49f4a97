"""The label of GB 45438-2025 for generated content, and the XMP packet that carries it in a picture.

The standard has seven fields under the name ``AIGC`` in a file's metadata; TC260-PG-20258A says how: in pictures as one XMP
property whose value is a JSON object, in MP4 as a metadata key with the same value. The packet also has IPTC's
``DigitalSourceType``, which says the same to readers of the other tradition.
"""

import json
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from governance.credentials.claim import DIGITAL_SOURCE_TYPE
from governance.errors import BadRecordError

KEY = "AIGC"
GENERATED = "1"
"""The value of ``Label`` for content that certainly is generated; 2 and 3 are what may be."""
FIELDS = ("Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2")

TC260 = "http://www.tc260.org.cn/ns/AIGC/1.0/"
IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{rdf}"><rdf:Description rdf:about="" xmlns:TC260="{tc260}" \
xmlns:Iptc4xmpExt="{iptc}"><TC260:AIGC>{label}</TC260:AIGC>\
<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
_MAX_XMP = 1 << 16


@dataclass(frozen=True, kw_only=True)
class AigcLabel:
    """The seven fields; the names in the file are those of `FIELDS`.

    Attributes:
        producer: Who made the content: a name, or the code under which a service is registered.
        produce_id: The producer's number for this content.
        integrity: The producer's own means against changes (``ReservedCode1``); here SHA-256 of the decoded pixels.
        propagator: Who spreads it; whoever does fills it in.
        propagate_id: The propagator's number for it.
        propagator_integrity: The propagator's own means against changes (``ReservedCode2``).
        label: Whether it is generated; `GENERATED` for what is made here.
    """

    producer: str
    produce_id: str
    integrity: str = ""
    propagator: str = ""
    propagate_id: str = ""
    propagator_integrity: str = ""
    label: str = GENERATED

    def to_json(self) -> str:
        """Returns the value that stands in the file."""
        values = (
            self.label,
            self.producer,
            self.produce_id,
            self.integrity,
            self.propagator,
            self.propagate_id,
            self.propagator_integrity,
        )
        return json.dumps(dict(zip(FIELDS, values, strict=True)), ensure_ascii=False, separators=(",", ":"))


def produce_id(run_id: str, position: int) -> str:
    """Returns the number that a file has at its producer: the run, and which of its files it is."""
    return f"{run_id}-{position}"


def parse_label(text: str) -> AigcLabel:
    """Returns the label that a JSON text holds.

    Raises:
        BadRecordError: It is no JSON object of exactly the seven fields, all of them text.
    """
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecordError("the AIGC label is no JSON") from error
    if not isinstance(found, dict) or set(found) != set(FIELDS) or not all(isinstance(value, str) for value in found.values()):
        raise BadRecordError("the AIGC label has not the seven fields of GB 45438-2025")
    label, producer, number, integrity, propagator, propagate_id, propagator_integrity = (found[name] for name in FIELDS)
    return AigcLabel(
        label=label,
        producer=producer,
        produce_id=number,
        integrity=integrity,
        propagator=propagator,
        propagate_id=propagate_id,
        propagator_integrity=propagator_integrity,
    )


def xmp_packet(label: AigcLabel, *, source_type: str = DIGITAL_SOURCE_TYPE) -> bytes:
    """Returns the XMP packet of a picture: the label, and IPTC's digital source type."""
    values = {"rdf": _RDF, "tc260": TC260, "iptc": IPTC_EXTENSION, "source_type": source_type}
    return _PACKET.format(**values, label=escape(label.to_json())).encode()


def parse_xmp(packet: bytes) -> tuple[str | None, str | None]:
    """Returns the AIGC property and the digital source type of a packet, as elements or attributes; None for what is not there.

    Raises:
        BadRecordError: It is too long, no XML, or has a document type, which XMP has no use for.
    """
    if len(packet) > _MAX_XMP or b"<!" in packet:
        raise BadRecordError("the XMP packet is too long, or declares a document type")
    try:
        root = ET.fromstring(packet.decode().strip().lstrip("\ufeff"))  # noqa: S314 - it has no declarations, see above
    except (ET.ParseError, UnicodeDecodeError, ValueError) as error:
        raise BadRecordError("the XMP packet is no XML") from error
    wanted = (f"{{{TC260}}}AIGC", f"{{{IPTC_EXTENSION}}}DigitalSourceType")
    label, source_type = (_property(root, name) for name in wanted)
    return label, source_type


def _property(root: ET.Element, name: str) -> str | None:
    for description in root.iter(f"{{{_RDF}}}Description"):
        value = description.get(name)
        element = description.find(name)
        found = value if value is not None else element.text if element is not None else None
        if found is not None:
            return found
    return None
