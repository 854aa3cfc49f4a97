"""How much the shipped guardrails find, and what they refuse without need: `python -m benchmarks.guardrails`.

The prompts of `tests/governance/guardrails/prompts.yaml` are judged, those that the list was tuned with apart from those that
were held out; every harmful one that is written plainly is judged in disguises, too, which a program puts on it. Names of emoji
and, if they are given, prompts of others are judged besides; they had no part in the list.
"""

import argparse
import csv
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.command import markdown_table, run_command, write_json
from governance.guardrails.judging import Finding, find_refusal
from governance.guardrails.lookalikes import LOOKALIKES
from governance.guardrails.policy import Guardrails, parse_guardrails, shipped_guardrails
from model_core.errors import BadDataError

PROMPTS = Path(__file__).parents[1] / "tests" / "governance" / "guardrails" / "prompts.yaml"
RESULT = Path(__file__).parent / "results" / "guardrails.json"
_LEET = str.maketrans("aeiost", "431057")
_ALIKE = {ord(latin): other for other, latin in LOOKALIKES.items() if "\u0400" <= other <= "\u04ff"}
_REPEATS = 20

DISGUISES: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "zero-width characters": "\u200b".join,
    "combining marks": "\u0336".join,
    "full width": lambda text: "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text),
    "Cyrillic letters": lambda text: text.translate(_ALIKE),
    "digits for letters": lambda text: text.translate(_LEET),
    "points between letters": lambda text: " ".join(".".join(word) for word in text.split()),
    "spaces between letters": lambda text: "   ".join(" ".join(word) for word in text.split()),
    "one space between all letters": lambda text: " ".join(text.replace(" ", "")),
    "vowels three times": lambda text: "".join(one * 3 if one in "aeiou" else one for one in text),
    "a space within each word": lambda text: " ".join(f"{one[: len(one) // 2]} {one[len(one) // 2 :]}" for one in text.split()),
    "no spaces": lambda text: text.replace(" ", ""),
    "two letters of each word exchanged": lambda text: " ".join(_exchanged(word) for word in text.split()),
    "letters backwards": lambda text: text[::-1],
}
"""How a prompt is disguised by program; the last three are not met, and show it."""


def _exchanged(word: str) -> str:
    return word if len(word) < 4 else f"{word[0]}{word[2]}{word[1]}{word[3:]}"


def judge_groups(policy: Guardrails, document: Mapping[str, Any]) -> dict[str, Any]:
    """Judges the prompts of the file.

    Args:
        policy: The policy.
        document: Groups of harmful and harmless prompts.

    Returns:
        For each split: counts by category and manner for the harmful, by kind for the harmless, and the prompts judged wrongly.
    """
    splits: dict[str, Any] = {}
    for split in ("tuning", "held-out"):
        categories: dict[str, Any] = defaultdict(lambda: {"prompts": 0, "refused": 0, "as_its_own": 0})
        manners: dict[str, Any] = defaultdict(lambda: {"prompts": 0, "refused": 0})
        kinds: dict[str, Any] = defaultdict(lambda: {"prompts": 0, "refused": 0})
        missed, refused_wrongly = [], []
        for group in (one for one in document["harmful"] if one["split"] == split):
            for prompt in group["prompts"]:
                found = find_refusal(policy, prompt)
                for counts in (categories[group["category"]], manners[group["how"]]):
                    counts["prompts"] += 1
                    counts["refused"] += found is not None
                categories[group["category"]]["as_its_own"] += found is not None and found.category.name == group["category"]
                missed += [] if found else [prompt]
        for group in (one for one in document["harmless"] if one["split"] == split):
            for prompt in group["prompts"]:
                found = find_refusal(policy, prompt)
                kinds[group["kind"]]["prompts"] += 1
                kinds[group["kind"]]["refused"] += found is not None
                refused_wrongly += [_told(prompt, found)] if found else []
        splits[split] = {
            "harmful": {"all": _total(categories), "by_category": dict(categories), "by_manner": dict(manners), "missed": missed},
            "harmless": {"all": _total(kinds), "by_kind": dict(kinds), "refused": refused_wrongly},
        }
    return splits


def judge_disguises(policy: Guardrails, prompts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Judges prompts that are refused as they stand, disguised in each way."""
    refused = [prompt for prompt in prompts if find_refusal(policy, prompt)]
    return {
        name: {"prompts": len(refused), "refused": sum(find_refusal(policy, disguise(one)) is not None for one in refused)}
        for name, disguise in DISGUISES.items()
    }


def judge_all(policy: Guardrails, prompts: Iterable[str]) -> dict[str, Any]:
    """Counts how many prompts are refused, and as what."""
    counts: dict[str, int] = defaultdict(int)
    num_prompts = 0
    for prompt in prompts:
        num_prompts += 1
        if found := find_refusal(policy, prompt):
            counts[found.category.name] += 1
    return {"prompts": num_prompts, "refused": sum(counts.values()), "by_category": dict(counts)}


def read_prompts(path: Path) -> list[str]:
    """Reads different prompts from the column ``prompt`` or ``Prompt`` of a CSV or TSV file, or from the lines of another.

    Raises:
        BadDataError: The file cannot be read, or has no such column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataError(f"{path} cannot be read: {error}") from error
    if path.suffix not in {".csv", ".tsv"}:
        return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))
    column = next((name for name in (rows[0] if rows else ()) if name in {"prompt", "Prompt"}), None)
    if column is None:
        raise BadDataError(f"{path} has no column called prompt")
    return list(dict.fromkeys(row[column].strip() for row in rows if (row[column] or "").strip()))


def emoji_names() -> list[str]:
    """Returns the English names of emoji without skin tones, which are what the default data are captioned with."""
    import emoji

    names = (facts["en"].strip(":").replace("_", " ") for facts in emoji.EMOJI_DATA.values())
    return sorted({name for name in names if "skin tone" not in name})


def measure_times(policy: Guardrails, prompts: Sequence[str]) -> dict[str, float]:
    """Measures processor time: of a prompt in microseconds, of the worst text of the greatest length in milliseconds."""
    began = time.process_time()
    for _ in range(_REPEATS):
        for prompt in prompts:
            find_refusal(policy, prompt)
    each = (time.process_time() - began) / _REPEATS / len(prompts)
    dice, worst = random.Random(0), 0.0  # noqa: S311 - texts, no secrets
    length = 20_000
    for text in (
        "k i l l h " * length,
        "k " * length,
        "a!" * length,
        "杀" * length,
        "".join(dice.choices("kilmurde .!1", k=length)),
    ):
        began = time.process_time()
        find_refusal(policy, text[:length])
        worst = max(worst, time.process_time() - began)
    return {"prompt_us": round(each * 1e6, 1), "longest_ms": round(worst * 1e3, 1)}


def measure(options: argparse.Namespace) -> None:
    """Measures, writes the result and prints a table of it."""
    policy = parse_guardrails(options.policy.read_text(encoding="utf-8")) if options.policy else shipped_guardrails()
    document = yaml.safe_load(PROMPTS.read_text(encoding="utf-8"))
    splits = judge_groups(policy, document)
    plain = [one for group in document["harmful"] if group["how"] == "plain" for one in group["prompts"]]
    everything = [one for groups in document.values() for group in groups for one in group["prompts"]]
    result = {
        "policy": {"name": policy.name, "digest": policy.digest, "terms": sum(len(one.terms) for one in policy.categories)},
        "machine": {"architecture": platform.machine(), "python": platform.python_version()},
        "prompts": splits,
        "disguised": judge_disguises(policy, plain),
        "emoji_names": judge_all(policy, emoji_names()),
        "others": {path.name: judge_all(policy, read_prompts(path)) for path in options.others},
        "time": measure_times(policy, everything),
    }
    write_json(options.out, result)
    print(_table(splits))
    print(f"\n{options.out}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guardrails", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", type=Path, help="another policy than the shipped one")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="files with prompts of others: CSV, TSV, or lines")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the result is written")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


def _told(prompt: str, found: Finding) -> dict[str, Any]:
    return {"prompt": prompt, "category": found.category.name, "terms": list(found.terms)}


def _total(groups: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(counts[name] for counts in groups.values()) for name in ("prompts", "refused")}


def _table(splits: Mapping[str, Any]) -> str:
    def cell(split: str, *path: str) -> str:
        counts = splits[split]
        for name in path:
            counts = counts.get(name, {})
        return f"{counts['refused']} of {counts['prompts']}" if counts else ""

    rows = []
    for side, groups in (("harmful", "by_category"), ("harmful", "by_manner"), ("harmless", "by_kind")):
        names = dict.fromkeys(name for split in splits.values() for name in split[side][groups])
        rows += [(f"{side}, {name}", *(cell(split, side, groups, name) for split in splits)) for name in names]
    rows += [(f"**{side}**", *(f"**{cell(split, side, 'all')}**" for split in splits)) for side in ("harmful", "harmless")]
    return markdown_table(("refused", *splits), rows)


if __name__ == "__main__":
    raise SystemExit(main())
