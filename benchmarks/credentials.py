"""What content credentials cost: ``python -m benchmarks.credentials --repeat 20``.

Pictures with large shapes, as generated ones have, and a clip are signed and verified again and again in a home of the
benchmark's own. Signing is everything between a drawn file and the one that is handed out: digest of the pixels, fingerprint,
label, manifest, and the file on the disk. Verifying is all of `groundswell content verify` but for the process and its imports;
the files bear no watermark, which is the slower case. Apart from these stand the watermark's own times, and how often a mark
that is copied without the key takes its id along. Beside the time on the clock stands that of the processor, which other work
on the machine lengthens less.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.watermark_media import graphics, photographs
from governance.credentials.claim import Claim
from infra.content_credentials import ContentSigner
from infra.content_keys import signing_keys
from infra.content_records import ContentRecords
from infra.content_verification import verify_content
from infra.home import Home
from infra.media_reading import read_file, read_pixels
from infra.settings import Settings
from infra.tables import assets
from infra.watermark import Watermarker, find_mark, open_watermarker
from tests.content_world import VERSION, clip_bytes, drawing, encoded, publish_files
from tests.model_core.watermark.copying import copy_mark

RESULTS = Path(__file__).parent / "results" / "credentials.json"
SIZES = (32, 64, 256, 512, 1024)
MARKED = ((1, 64), (1, 256), (1, 512), (1, 1024), (16, 64), (16, 256), (64, 256))
"""Frames and side of what is marked."""


def measure(folder: Path, *, repeat: int, num_assets: int, num_copied: int) -> dict[str, Any]:
    """Returns the milliseconds of each step, median and longest, for each kind of file; and of a search by looks."""
    home = Home.open(Settings.load(folder / "home"))
    files = {f"{size}x{size}.png": encoded(drawing(size, size=size), "PNG") for size in SIZES}
    files |= {"512x512.jpg": encoded(drawing(7, size=512), "JPEG"), "512x512.webp": encoded(drawing(8, size=512), "WEBP")}
    files["96x96x48.mp4"] = clip_bytes(folder, num_frames=48)
    made = publish_files(home, folder, files)
    signer = ContentSigner(signing_keys(home), producer="groundswell")
    rows = []
    for (name, data), published in zip(files.items(), made.files, strict=True):
        source, target = folder / name, folder / "out" / f"again-{name}"
        source.write_bytes(data)
        sign = _times(lambda source=source, target=target: _hand_out(signer, source, target), repeat)
        verify = _times(lambda path=published.path: verify_content(path, home=home), repeat)
        rows.append(
            {
                "file": name,
                "bytes": len(data),
                "added_bytes": published.path.stat().st_size - len(data),
                "sign": sign,
                "verify": verify,
            }
        )
    watermarker = open_watermarker(home, VERSION.root_digest)
    return {
        "repeat": repeat,
        "files": rows,
        "search": _search(home, made.files[0].fingerprint, num_assets),
        "watermark": _watermark(watermarker, repeat),
        "copied": _copied(watermarker, num_copied),
    }


def _watermark(watermarker: Watermarker, repeat: int) -> list[dict[str, Any]]:
    """Returns the milliseconds of marking and of looking for a mark that is there and one that is not."""
    rows = []
    for num_frames, size in MARKED:
        frames = np.stack([np.asarray(drawing(seed, size=size)) for seed in range(num_frames)])
        marked, _ = watermarker.mark(frames)
        row: dict[str, Any] = {"frames": num_frames, "size": size}
        row["mark"] = _times(lambda frames=frames: watermarker.mark(frames), repeat)
        row["found"] = _times(lambda marked=marked: find_mark(marked, watermarker.secrets), repeat)
        row["not_found"] = _times(lambda frames=frames: find_mark(frames, watermarker.secrets), repeat)
        rows.append(row)
    return rows


def _copied(watermarker: Watermarker, count: int) -> list[dict[str, int]]:
    """Returns how many marks can be carried over to other pictures without the key, with their ids."""
    rows = []
    for size in (256, 512):
        sources = graphics(size, -(-count // 2), seed=1) + photographs(size, count // 2, 1, None)
        others = photographs(size, count, 9, None)
        read = 0
        for source, other in zip(sources, others, strict=True):
            marked, watermark_id = watermarker.mark(source)
            payload = find_mark(copy_mark(marked, other), watermarker.secrets).payload
            read += payload is not None and payload.hex() == watermark_id
        rows.append({"size": size, "pictures": count, "ids_read": read})
    return rows


def _hand_out(signer: ContentSigner, source: Path, target: Path) -> None:
    file = read_file(source)
    pixels = read_pixels(file.kind, file.data)
    claim = Claim(
        run_id="r",
        position=0,
        model_name=VERSION.name,
        model_version=VERSION.version,
        root_digest=VERSION.root_digest,
        pixels_sha256=pixels.sha256,
    )
    signer.sign_file(source, target, claim)


def _search(home: Home, fingerprint: str, num_assets: int) -> dict[str, Any]:
    """Returns how long it takes to compare a fingerprint with that of every file on record."""
    with home.database.engine.begin() as connection:
        row = {"run_id": "many", "model_name": "m", "model_version": 1, "root_digest": "a", "seed": "0", "file_name": "x"}
        values = [
            {
                **row,
                "condition_commitment": "c",
                "created": "t",
                "sha256": f"{number:064x}",
                "position": number,
                "fingerprint": f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
            }
            for number in range(num_assets)
        ]
        connection.execute(assets.insert(), values)
    began = time.perf_counter()
    with home.database.read() as connection:
        ContentRecords(connection, home).looking_like(fingerprint)
    return {"assets": num_assets, "seconds": round(time.perf_counter() - began, 3)}


def _times(act: Callable[[], object], repeat: int) -> dict[str, float]:
    taken, worked = [], []
    for _ in range(repeat + 1):
        began, began_work = time.perf_counter(), time.process_time()
        act()
        taken.append((time.perf_counter() - began) * 1000)
        worked.append((time.process_time() - began_work) * 1000)
    kept = taken[1:]  # the first imports what the others find imported
    return {
        "median_ms": round(statistics.median(kept), 2),
        "max_ms": round(max(kept), 2),
        "cpu_ms": round(statistics.median(worked[1:]), 2),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints a table, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=positive, default=20, help="how often each file is signed and verified")
    parser.add_argument("--assets", type=positive, default=100_000, help="files on record that a search by looks compares")
    parser.add_argument("--copied", type=positive, default=12, help="marks of each size that are copied without the key")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args(argv)

    def body() -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), repeat=arguments.repeat, num_assets=arguments.assets, num_copied=arguments.copied)
        write_json(arguments.json, {"machine": machine(), **found})
        header = ("file", "bytes", "added", "sign, ms", "of it work", "verify, ms", "of it work")
        rows = [
            (
                row["file"],
                f"{row['bytes']:,}",
                f"{row['added_bytes']:,}",
                *(str(row[step][which]) for step in ("sign", "verify") for which in ("median_ms", "cpu_ms")),
            )
            for row in found["files"]
        ]
        print(markdown_table(header, rows))
        header = ("frames", "size", "mark, ms", "find, ms", "find nothing, ms")
        marks = [
            (row["frames"], row["size"], *(row[what]["cpu_ms"] for what in ("mark", "found", "not_found")))
            for row in found["watermark"]
        ]
        print(markdown_table(header, [tuple(map(str, row)) for row in marks]))
        for row in found["copied"]:
            print(f"marks of {row['size']} px copied without the key: {row['ids_read']} of {row['pictures']} ids read")
        print(f"search by looks among {found['search']['assets']:,} files: {found['search']['seconds']} s")

    return run_command(body)


if __name__ == "__main__":
    raise SystemExit(main())
