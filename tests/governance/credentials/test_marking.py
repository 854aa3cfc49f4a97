"""The label of GB 45438-2025 in every kind of file: there for other readers, and no pixel is touched."""

import io
import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from governance.credentials.claim import DIGITAL_SOURCE_TYPE
from governance.credentials.label import AigcLabel, parse_label, parse_xmp, xmp_packet
from governance.credentials.marking import mark, read_mark
from governance.credentials.media_kind import MediaKind, sniff
from governance.credentials.picture_metadata import extract_xmp
from governance.errors import BadRecordError
from tests.content_world import all_kinds, clip_bytes, drawing, encoded

LABEL = AigcLabel(producer='Grün & <Söhne> "eins"', produce_id="run-0", integrity="ab" * 32)
# The seven names as the standard has them in its appendix E; written out here, so that nothing else says what is right.
STANDARD = {"Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2"}
PICTURES = ["image.png", "image.jpg", "image.webp", "lossless.webp", "image.gif", "moving.gif", "moving.webp"]
CLIPS = ["clip.mp4", "streamed.mp4", "tagged.mp4"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return all_kinds(tmp_path_factory.mktemp("kinds"))


def frames(data):
    with Image.open(io.BytesIO(data)) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            yield image.convert("RGBA").tobytes()


def clip_frames(data):
    import av

    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)], dict(container.metadata)


@pytest.mark.parametrize("name", PICTURES + CLIPS)
def test_a_label_is_read_back_from_every_kind_and_replaces_the_one_before(files, name):
    data = files[name]
    kind = sniff(data)
    first = mark(kind, data, AigcLabel(producer="somebody", produce_id="else"))
    marked = mark(kind, first, LABEL)
    assert read_mark(kind, data) == (None, None)
    assert read_mark(kind, marked) == (LABEL, DIGITAL_SOURCE_TYPE)
    assert sniff(marked) is kind


@pytest.mark.parametrize("name", PICTURES)
def test_no_pixel_of_a_picture_changes(files, name):
    assert list(frames(mark(sniff(files[name]), files[name], LABEL))) == list(frames(files[name]))


@pytest.mark.parametrize("name", CLIPS)
def test_no_frame_of_a_clip_changes_and_ffmpeg_reads_the_label(files, name):
    shown, _ = clip_frames(files[name])
    marked, told = clip_frames(mark(MediaKind.MP4, files[name], LABEL))
    assert marked == shown
    assert set(json.loads(told["AIGC"])) == STANDARD
    assert told["encoder"].startswith("Lavf")


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.webp"])
def test_pillow_finds_the_packet_where_the_format_has_it(files, name):
    marked = mark(sniff(files[name]), files[name], LABEL)
    with Image.open(io.BytesIO(marked)) as image:
        packet = image.info["xmp"] if "xmp" in image.info else image.info["XML:com.adobe.xmp"].encode()
    root = ET.fromstring(packet.decode().lstrip("\ufeff").strip())
    (label,) = root.iter("{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC")
    (source_type,) = root.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    found = json.loads(label.text)
    assert set(found) == STANDARD
    assert found["Label"] == "1"
    assert all(isinstance(value, str) for value in found.values())
    assert source_type.text == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@given(st.builds(AigcLabel, producer=st.text(max_size=50), produce_id=st.text(max_size=50), propagator=st.text(max_size=50)))
def test_parsing_gives_back_what_was_written(label):
    assert parse_label(label.to_json()) == label


def test_a_property_may_be_an_attribute_as_other_writers_have_it():
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:T="http://www.tc260.org.cn/ns/AIGC/1.0/" T:AIGC="{&quot;Label&quot;:&quot;1&quot;}"/></rdf:RDF></x:xmpmeta>'
    )
    assert parse_xmp(packet.encode()) == ('{"Label":"1"}', None)


@pytest.mark.parametrize("text", ["", "no", "[]", "{}", '{"Label":"1"}', json.dumps(dict.fromkeys(STANDARD, 1)), "[" * 100_000])
def test_what_is_no_label_is_refused(text):
    with pytest.raises(BadRecordError):
        parse_label(text)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<a>",
        b"\xff\xfe",
        b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><a>&d;</a>',
        b"<a>" + b"x" * 70_000 + b"</a>",
        "<a>\ud7ff</a>".encode("utf-16"),
    ],
)
def test_a_packet_that_is_no_plain_xml_is_refused(packet):
    with pytest.raises(BadRecordError):
        parse_xmp(packet)


@pytest.mark.parametrize("name", PICTURES + CLIPS)
def test_a_cut_file_is_refused_or_read_but_never_breaks_the_reader(files, name):
    data = files[name]
    kind = sniff(data)
    for length in [*range(12, 200, 7), len(data) // 2, len(data) - 1]:
        for act in (lambda cut: mark(kind, cut, LABEL), lambda cut: read_mark(kind, cut)):
            try:
                act(data[:length])
            except BadRecordError:
                continue


@given(st.binary(max_size=300), st.sampled_from(MediaKind))
def test_bytes_of_any_kind_are_refused_or_read(data, kind):
    heads = {
        MediaKind.PNG: b"\x89PNG\r\n\x1a\n",
        MediaKind.JPEG: b"\xff\xd8\xff",
        MediaKind.WEBP: b"RIFF\xff\0\0\0WEBP",
        MediaKind.GIF: b"GIF89a",
        MediaKind.MP4: b"\0\0\0\x10ftypisom\0\0\0\0",
    }
    for act in (lambda: mark(kind, heads[kind] + data, LABEL), lambda: read_mark(kind, heads[kind] + data)):
        try:
            act()
        except BadRecordError:
            continue


def test_the_kind_is_told_by_bytes():
    assert sniff(encoded(drawing(1), "PNG")) is MediaKind.PNG
    assert sniff(encoded(drawing(1), "BMP")) is None
    assert sniff(b"") is None


def test_a_clip_in_fragments_takes_no_label(tmp_path):
    data = clip_bytes(tmp_path, movflags="frag_keyframe+empty_moov")
    with pytest.raises(BadRecordError, match="fragments"):
        mark(MediaKind.MP4, data, LABEL)


def test_a_packet_that_does_not_fit_into_a_segment_is_refused(files):
    with pytest.raises(BadRecordError, match="does not fit"):
        mark(MediaKind.JPEG, files["image.jpg"], AigcLabel(producer="x" * 70_000, produce_id="1"))


def test_the_packet_of_a_picture_is_the_one_that_was_put_in(files):
    for name in PICTURES:
        kind = sniff(files[name])
        assert extract_xmp(kind, mark(kind, files[name], LABEL)) == xmp_packet(LABEL)
