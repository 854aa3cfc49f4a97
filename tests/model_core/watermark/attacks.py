"""What happens to media on their way, on uint8 frames [frames height width 3]."""

import io

import av
import numpy as np
from PIL import Image

from model_core.watermark.frames import Frames


def jpeg(frames: Frames, quality: int = 50) -> Frames:
    decoded = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, format="JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file).convert("RGB")))
    return np.stack(decoded)


def resize(frames: Frames, scale: float = 0.5) -> Frames:
    height, width = (round(size * scale) for size in frames.shape[1:3])
    resized = [Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in frames]
    return np.stack([np.asarray(frame) for frame in resized])


def half_and_back(frames: Frames) -> Frames:
    return resize(resize(frames, 0.5), 2.0)


def crop(frames: Frames, share: float = 0.1) -> Frames:
    """Cuts a share of the height and of the width off, more of it at the top left."""
    height, width = frames.shape[1:3]
    top, left = int(height * share * 0.7), int(width * share * 0.6)
    return frames[:, top : top + round(height * (1 - share)), left : left + round(width * (1 - share))]


def h264(frames: Frames, crf: int = 28) -> Frames:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
