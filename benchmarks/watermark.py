"""What the watermark outlives, costs and mistakes: ``python -m benchmarks.watermark [--media FOLDER] [--count N]``.

Media of several sizes are marked, each attack is done to each, and the detector is asked. As many media that nobody marked are
shown to it with keys drawn anew, and the marked ones with another key. Times are of the processor, on one thread. Prints Markdown
tables.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import machine, positive, read_json, run_command, write_json
from benchmarks.watermark_attacks import OTHERS, REQUIRED
from benchmarks.watermark_media import graphics, moving_graphics, photographs, unmarked, videos
from benchmarks.watermark_report import render
from model_core.codec.quality import psnr, ssim
from model_core.watermark import PAYLOAD_BYTES, Detection, detect, embed
from model_core.watermark.detection import DETECTION_LEVEL, num_placements_of
from model_core.watermark.frames import Frames
from model_core.watermark.significance import score_threshold

RESULTS = Path(__file__).parent / "results" / "watermark.json"
_SEED = 20
_LEVELS = (0.1, 0.01, DETECTION_LEVEL)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Media of one kind and size, and whether an id is put into them.

    Attributes:
        name: What to call them.
        media: Makes as many as asked for.
        with_id: Whether they are marked with an id.
        share: How many of them against the number asked for.
    """

    name: str
    media: Callable[[int], list[Frames]]
    with_id: bool
    share: float = 1.0


def cases(folder: Path | None) -> list[Case]:
    """Returns what is measured."""
    found = []
    for size in (32, 64, 128, 256, 512):
        with_id, share = size >= 128, 0.25 if size == 512 else 1.0
        found.append(Case(name=f"graphics {size}", media=lambda n, s=size: graphics(s, n, _SEED), with_id=with_id, share=share))
        found.append(
            Case(name=f"photos {size}", media=lambda n, s=size: photographs(s, n, _SEED, folder), with_id=with_id, share=share)
        )
    for size in (64, 32):
        name = f"16x{size}x{size}"
        found.append(
            Case(name=f"graphics {name}", media=lambda n, s=size: moving_graphics(s, n, 16, _SEED), with_id=False, share=0.5)
        )
        if folder:
            found.append(
                Case(name=f"videos {name}", media=lambda n, s=size: videos(s, n, 16, _SEED, folder), with_id=False, share=0.5)
            )
    found.append(Case(name="graphics 16x64x64, id", media=lambda n: moving_graphics(64, n, 16, _SEED), with_id=True, share=0.5))
    return found


def measure_case(case: Case, count: int) -> dict[str, Any]:
    """Returns what the marks of a case cost and how many are found after each attack."""
    generator = np.random.default_rng(_SEED)
    key, other_key = generator.bytes(32), generator.bytes(32)
    media = case.media(max(1, round(count * case.share)))
    ids = [generator.bytes(PAYLOAD_BYTES) if case.with_id else None for _ in media]
    marked, embed_ms = zip(*(_timed(lambda x=x, i=i: embed(x, key, i)) for x, i in zip(media, ids, strict=True)), strict=True)
    attacks: dict[str, Any] = {}
    detect_ms: list[float] = []
    for name, attack in {**REQUIRED, **OTHERS}.items():
        attacked = [attack(medium, generator) for medium in marked]
        found, times = zip(*(_timed(lambda x=x: detect(x, key)) for x in attacked), strict=True)
        attacks[name] = _summary(found, ids)
        if name == "none":
            detect_ms += times
    others, other_ms = zip(*(_timed(lambda x=x: detect(x, other_key)) for x in marked), strict=True)
    fidelity = [_fidelity(before, after) for before, after in zip(media, marked, strict=True)]
    return {
        "num_media": len(media),
        "with_id": case.with_id,
        "attacks": attacks,
        "found_with_another_key": sum(one.detected for one in others),
        "psnr_db": {"mean": statistics.mean(p for p, _ in fidelity), "least": min(p for p, _ in fidelity)},
        "ssim": {"mean": statistics.mean(s for _, s in fidelity), "least": min(s for _, s in fidelity)},
        "embed_ms": statistics.median(embed_ms),
        "detect_ms": statistics.median(detect_ms),
        "detect_nothing_ms": statistics.median(other_ms),
    }


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = call()
    return result, 1000 * (time.process_time() - start)


def _summary(found: Sequence[Detection], ids: Sequence[bytes | None]) -> dict[str, Any]:
    right = [one.payload == payload for one, payload in zip(found, ids, strict=True) if payload is not None]
    wrong = [one.payload not in {payload, None} for one, payload in zip(found, ids, strict=True)]
    return {
        "detected": statistics.mean(one.detected for one in found),
        "median_score": statistics.median(one.score for one in found),
        "id_read": statistics.mean(right) if right else None,
        "wrong_ids": sum(wrong),
    }


def _fidelity(before: Frames, after: Frames) -> tuple[float, float]:
    one, other = (torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1 for x in (before, after))
    return float(psnr(one, other).mean()), float(ssim(one, other).mean())


def measure_false_positives(count: int, folder: Path | None) -> dict[str, Any]:
    """Returns how often media that nobody marked look marked, a key drawn for each."""
    generator, kinds, wrong_ids = np.random.default_rng(_SEED), {}, 0
    for kind, media in unmarked(count, _SEED, folder).items():
        found = [detect(medium, generator.bytes(32)) for medium in media]
        wrong_ids += sum(one.payload is not None for one in found)
        if found:
            kinds[kind] = {
                "num_media": len(found),
                "highest_score": max(one.score for one in found),
                "threshold": score_threshold(DETECTION_LEVEL, num_placements_of(max(media[0].shape[1:3]))),
                "found_at": {str(level): sum(one.false_positive_probability < level for one in found) for level in _LEVELS},
            }
        print(f"unmarked {kind}: {len(found)} looked at", flush=True)
    return {"kinds": kinds, "wrong_ids": wrong_ids}


def main() -> None:
    """Measures, writes the document and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, help="a folder with more photographs and mp4 files, at any depth")
    parser.add_argument("--count", type=positive, default=16, help="media of each kind and size")
    parser.add_argument("--unmarked", type=positive, default=2000, help="media that nobody marked")
    parser.add_argument("--only", choices=["marked", "unmarked"], help="measure this alone, beside what an earlier call wrote")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    document = read_json(options.json) if options.only else {"cases": {}}
    document |= {"machine": machine(), "level": DETECTION_LEVEL}
    for case in cases(options.media) if options.only != "unmarked" else []:
        document["cases"][case.name] = measure_case(case, options.count)
        print(f"{case.name}: measured", flush=True)
    if options.only != "marked":
        document["unmarked"] = measure_false_positives(options.unmarked, options.media)
    write_json(options.json, document)
    print(render(document))


if __name__ == "__main__":
    raise SystemExit(run_command(main))
