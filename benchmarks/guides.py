"""The acceptance figures of the guides on a model: `python -m benchmarks.guides HOME MODEL [--write]`.

Every use is run on the input that its guide commits. The figures go to `benchmarks/results/guides.json`; with ``--write`` they
also replace the table of the default model in docs/guides/README.md.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.command import machine, markdown_table, run_command, write_json
from groundswell.cli.output import format_number
from model_core.errors import BadDataError

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
RESULT = Path(__file__).parent / "results" / "guides.json"
BEGIN, END = "<!-- default model: begin -->", "<!-- default model: end -->"
EXIT_MISSED = 5


def arguments_of(model: str, out: Path) -> dict[str, list[str]]:
    """Returns the arguments of each use, as its guide calls it."""
    tables = {
        "content": "content/catalogue.csv",
        "marketing": "marketing/customers.csv",
        "insight": "insight/interactions.csv",
        "decision": "decision/scenarios.csv",
        "education": "education/lesson.csv",
        "cross_media": "cross-media/ideas.csv",
        "sentence": "sentence/phrasings.csv",
    }
    found = {use: [model, str(GUIDES / table), "--out", str(out / use)] for use, table in tables.items()}
    found["decision"] = [model, *found["decision"], "-a", "guidance_scale=1", "-b", "guidance_scale=4"]
    offers = ["--offers", str(GUIDES / "marketing" / "offers.csv"), "--mapping", str(out / "private" / "mapping.csv")]
    found["marketing"] = [*found["marketing"], *offers]
    return found


def measure(home: str, use: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Runs a use.

    Raises:
        BadDataError: It ended with an error in the place of figures.
    """
    command = [sys.executable, "-m", f"groundswell.uses.{use}", "--json", "--home", home, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    document: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode not in {0, EXIT_MISSED} or "figures" not in document:
        raise BadDataError(f"{use} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return document


def table_of(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the figures as a Markdown table."""
    rows = []
    for use, document in documents.items():
        for figure in document["figures"]:
            low, high, chance = (format_number(figure[name]) for name in ("low", "high", "chance"))
            rows.append(
                (
                    use,
                    figure["name"],
                    format_number(figure["value"]),
                    f"{low} to {high}" if low else "",
                    f"{'at most' if figure['is_ceiling'] else 'at least'} {format_number(figure['threshold'])}",
                    chance,
                    "reached" if figure["reached"] else "**missed**",
                )
            )
    return markdown_table(("use", "figure", "measured", "95 % interval", "threshold", "chance", ""), rows)


def filled(page: str, table: str) -> str:
    """Returns a page with the table between its marks.

    Raises:
        BadDataError: The page has no marks.
    """
    if BEGIN not in page or END not in page:
        raise BadDataError("the page has no place for the table", hint=f"it stands between {BEGIN} and {END}")
    before, rest = page.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", help="the home that has the model")
    parser.add_argument("model", help="name/version or name@alias")
    parser.add_argument("--write", action="store_true", help="fill the table in docs/guides/README.md")
    given = parser.parse_args(argv)

    def body() -> None:
        with TemporaryDirectory() as out:
            found = {}
            for use, arguments in arguments_of(given.model, Path(out)).items():
                print(f"{use} ...", file=sys.stderr)
                found[use] = measure(given.home, use, arguments)
        figures = {use: document["figures"] for use, document in found.items()}
        write_json(RESULT, {"machine": machine(), "model": given.model, "figures": figures})
        print(table_of(found))
        if given.write:
            page = GUIDES / "README.md"
            page.write_text(filled(page.read_text(encoding="utf-8"), table_of(found)), encoding="utf-8")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
