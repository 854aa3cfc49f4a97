"""An invisible mark in the pixels of pictures and clips that a secret key finds again, without the original.

`embed` adds a faint pattern, `detect` says how surely it is there and, in pictures of 256 pixels or so, which id of six bytes
it carries. It is made to outlive what happens to media on their way: compression, resizing, cropping.
``benchmarks/README.md`` says what it outlives and what beats it.

What a secret key protects: without it nobody can tell marked pictures from others by this detector, read or forge an id, or aim
at the pattern to take it out. What it does not: whoever holds the key can remove the mark, or copy it with its id to any picture.
One key and id put the same pattern into everything, so that who averages very many such pictures can estimate it without the key,
and who has a detector to ask can search for what no longer triggers it. Any change that costs enough quality, such as a strong
blur or a re-drawing by a generative model, removes a mark of this kind. So a mark that is found is evidence that the platform, or
somebody with its key, made the pixels; it is no proof. A mark that is not found says nothing.
"""

from model_core.watermark.carriers import MIN_KEY_BYTES
from model_core.watermark.detection import Detection, detect
from model_core.watermark.embedding import embed
from model_core.watermark.payload_code import PAYLOAD_BYTES
from model_core.watermark.room import MIN_SIDE, Room, room_in

__all__ = ["MIN_KEY_BYTES", "MIN_SIDE", "PAYLOAD_BYTES", "Detection", "Room", "detect", "embed", "room_in"]
