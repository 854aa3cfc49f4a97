"""What generated samples can be written as."""

from typing import Final, Literal

MediaFormat = Literal["png", "mp4", "webp", "gif"]
"""PNG for pictures; MP4 (H.264), animated WebP and GIF for clips."""

DEFAULT_FPS = 8.0
"""Of clips whose model says nothing of it."""

MAX_UPSCALE: Final = 16
"""Most times that samples are enlarged along each side."""
