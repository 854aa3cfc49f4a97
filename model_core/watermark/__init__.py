"""An invisible mark in the pixels of pictures and clips that a secret key finds again, without the original.

`embed` adds a faint pattern, `detect` says how surely it is there and, in pictures of 256 pixels or so, which id of six bytes
it carries. It is made to outlive what happens to media on their way: compression, resizing, cropping.
``benchmarks/README.md`` says what it outlives and what beats it.

What a secret key protects: without it nobody can tell marked pictures from others by this detector, or read an id or make one.
What it does not: the pattern repeats all over a picture, so that who has a marked one can estimate it without the key, take it
out, or lay it with its id over another picture (the copy attack: Kutter, Voloshynovskiy and Herrigel 2000). Who has a detector to
ask can search for what no longer triggers it. Any change that costs enough quality, such as a strong blur or a re-drawing by a
generative model, removes a mark of this kind. So a mark that is found is evidence that the platform made the pixels, or others
that the mark was copied from; it is no proof. A mark that is not found says nothing. Of two marks put in one after the other the
later id is read, or none.
"""

from model_core.watermark.carriers import MIN_KEY_BYTES
from model_core.watermark.detection import Detection, detect
from model_core.watermark.embedding import embed
from model_core.watermark.payload_code import PAYLOAD_BYTES
from model_core.watermark.room import MIN_SIDE, Room, room_in

__all__ = ["MIN_KEY_BYTES", "MIN_SIDE", "PAYLOAD_BYTES", "Detection", "Room", "detect", "embed", "room_in"]
