"""What generated samples can be written as."""

from typing import Literal

MediaFormat = Literal["png", "mp4", "webp", "gif"]
"""PNG for pictures; MP4 (H.264), animated WebP and GIF for clips."""

DEFAULT_FPS = 8.0
"""Of clips whose model says nothing of it."""
