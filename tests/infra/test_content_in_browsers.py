"""What is handed out, opened by a real browser: credentials and labels are in no viewer's way."""

import base64

import av
import numpy as np
import pytest
from PIL import Image

from infra.home import Home
from infra.settings import Settings
from tests.content_world import all_kinds, publish_files

_SEEN = """async () => {
  const shown = document.querySelector('video') || document.querySelector('img');
  if (shown.tagName === 'VIDEO') {
    await new Promise((done, failed) => {
      shown.onerror = () => failed(new Error(`the video does not play: ${shown.error && shown.error.message}`));
      shown.onloadeddata = done;
      if (shown.readyState >= 2) done();
    });
  } else {
    await shown.decode();
  }
  const canvas = document.createElement('canvas');
  canvas.width = shown.videoWidth || shown.naturalWidth;
  canvas.height = shown.videoHeight || shown.naturalHeight;
  const context = canvas.getContext('2d');
  context.drawImage(shown, 0, 0);
  const rgba = Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
  return {width: canvas.width, height: canvas.height, seconds: shown.duration || 0, rgba: rgba};
}"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    home = Home.open(Settings.load(folder / "home"))
    yield [file.path for file in publish_files(home, folder, all_kinds(folder)).files]
    home.database.close()


def first_frame(path, kind):
    if kind == "image":
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB")), 0.0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        seconds = float(stream.duration * stream.time_base)
        return next(container.decode(video=0)).to_ndarray(format="rgb24"), seconds


@pytest.mark.parametrize(
    ("ending", "kind"), [("mp4", "video"), ("png", "image"), ("jpg", "image"), ("webp", "image"), ("gif", "image")]
)
def test_chromium_shows_what_the_file_holds(files, page, ending, kind):
    chosen = [path for path in files if path.suffix == f".{ending}"]
    assert chosen
    for path in chosen:
        data = f"data:{kind}/{ending.replace('jpg', 'jpeg')};base64,{base64.b64encode(path.read_bytes()).decode()}"
        page.set_content(f'<{"video preload=auto" if kind == "video" else "img"} src="{data}">')
        seen = page.evaluate(_SEEN)
        shown = np.asarray(seen["rgba"], dtype=np.uint8).reshape(seen["height"], seen["width"], 4)[..., :3]
        expected, seconds = first_frame(path, kind)
        assert seen["seconds"] == pytest.approx(seconds, abs=0.05)
        assert np.abs(shown.astype(float) - expected).mean() < 8  # two decoders, two ways from YUV to RGB
