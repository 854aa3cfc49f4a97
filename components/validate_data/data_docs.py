"""Data Docs that can be read offline.

The pages of Great Expectations load styles, scripts, icons and a logo from seven hosts; without them the first page stays
empty. Here everything remote and every script is taken out, a style sheet is put in, and a first page is written.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.validate_data.failed_rows import ShownRows

_REMOTE = re.compile(
    r"<link\b[^>]*\bhref=\"https?:[^>]*>|<script\b.*?</script>|<img\b[^>]*\bsrc=\"https?:[^>]*>|<footer\b.*?</footer>",
    re.DOTALL | re.IGNORECASE,
)
_SUITE_LINK = re.compile(r"<a\b[^>]*\bhref=\"[^\"]*expectations/[^\"]*\"[^>]*>(.*?)</a>", re.DOTALL)
_POLICY = "default-src 'none'; style-src 'unsafe-inline' 'self'; img-src 'self' data:; font-src 'self'"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 1100px; margin: 0 auto; padding: 24px; }
h1 { font-size: 24px; } h2, h4, h5 { font-size: 18px; margin: 24px 0 8px; } h6 { font-size: 14px; margin: 12px 0 4px; }
table { border-collapse: collapse; width: 100%; margin-bottom: 12px; } a { color: #0b5cad; }
th, td { text-align: left; vertical-align: top; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid #e4e4e4; overflow-wrap: break-word; }
code { overflow-wrap: anywhere; }
ol.breadcrumb { list-style: none; padding: 0; color: #666; } ol.breadcrumb li { display: inline; margin-right: 8px; }
.badge { background: #eef1f4; border-radius: 4px; padding: 1px 6px; }
.met, .text-success { color: #1a7f37; } .error, .text-danger { color: #b42318; } .warning, .text-warning { color: #9a6700; }
.fa-check-circle::before { content: "\\2714"; } .fa-times::before { content: "\\2718"; }
.fa-exclamation-triangle::before { content: "\\26A0"; }
nav, .modal, .modal-dialog, .ge-navigation-sidebar-container, .btn, input, label, form, #ge-cta-footer { display: none; }
nav[aria-label], nav .breadcrumb { display: block; } i { font-style: normal; }
.index td:first-child, .index td:nth-child(4) { white-space: nowrap; }
"""


def make_readable_offline(docs: Path) -> None:
    """Takes what is remote, and every script, out of all pages below a folder, and puts a style sheet in."""
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style></head>'
    for page in sorted(docs.rglob("*.html")):
        local = _SUITE_LINK.sub(r"\1", _REMOTE.sub("", page.read_text(encoding="utf-8")))
        page.write_text(local.replace("</head>", head, 1), encoding="utf-8")


def write_index(docs: Path, report: Mapping[str, Any], failed: ShownRows) -> None:
    """Writes the first page.

    Args:
        docs: The folder with the pages of Great Expectations.
        report: What goes into `report.json`.
        failed: What is shown of `failed_rows.csv`.
    """
    verdict = '<span class="met">passed</span>' if report["success"] else '<span class="error">failed</span>'
    pages = [
        f'<li><a href="{quote(page.relative_to(docs).as_posix())}">{escape(page.stem)}</a></li>'
        for page in sorted((docs / "validations").rglob("*.html"))
    ]
    all_shown = len(failed.rows) == failed.num_rows
    more = "" if all_shown else f"<p>The first {len(failed.rows)} of {failed.num_rows:,}; all are in failed_rows.csv.</p>"
    cells = [_expectation_cells(item) for item in report["expectations"]]
    expectations = _table(cells, ("", "expectation", "table", "rows that fail"))
    statistics = _table([(escape(str(key)), escape(_plain(value))) for key, value in report["statistics"].items()], ("", ""))
    text = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="UTF-8"><title>Validation of {escape(str(report["dataset"]))}</title></head><body>
<h1>Validation of {escape(str(report["dataset"]))}: {verdict}</h1>
<p>{report["num_rows"]:,} items. Dataset digest <code>{report["dataset_digest"]}</code>. Suite {escape(str(report["suite"]))}.</p>
<h2>Expectations</h2>{expectations}
<h2>Failed rows</h2>{more}{_failed_table(failed.rows)}
<h2>Statistics</h2>{statistics}
<h2>Pages of Great Expectations</h2><ul>{"".join(pages)}</ul>
</body></html>
"""
    (docs / "index.html").write_text(text, encoding="utf-8")


def _expectation_cells(item: Mapping[str, Any]) -> tuple[str, ...]:
    kind, word = ("met", "✔ met") if item["success"] else (item["severity"], f"✘ {item['severity']}")
    meaning = f"{escape(item['meaning'])}<br><small>{escape(item['type'])} {escape(_plain(item['kwargs']))}</small>"
    return f'<span class="{kind}">{word}</span>', meaning, escape(item["table"]), f"{item['num_failed']:,}"


def _failed_table(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return "<p>None.</p>"
    columns = tuple(rows[0])
    return _table([tuple(escape(str(row[column])) for column in columns) for row in rows], columns)


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """Returns a table of cells that are HTML already."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="index"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _plain(value: object) -> str:
    """Returns a value in words: {"train": 640} as "train: 640"."""
    return ", ".join(f"{key or '(none)'}: {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)
