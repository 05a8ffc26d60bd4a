"""A proof as files: ``verification.json`` for machines and ``verification.html`` for people.

The page is whole by itself: no scripts, nothing loaded from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit import bundle

if TYPE_CHECKING:
    from phi3kit.export.proof import Proof

DOCUMENT, PAGE = "verification.json", "verification.html"
MARKS = {"passed": "✓", "failed": "✗", "not run": "–"}
STYLE = """
:root { --good: #2c7a4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --good: #6fc590; --bad: #f28b82; } }
.verdict { font-size: 1.5rem; font-weight: 600; margin: .2rem 0 1.2rem; } .passed { --tone: var(--good); }
.failed { --tone: var(--bad); } .not-run { --tone: var(--soft); } .verdict, .status { color: var(--tone); }
section { border: 1px solid var(--line); border-left: 5px solid var(--tone); border-radius: 6px; margin: .8rem 0;
  padding: .6rem 1rem .7rem; } section h2 { font-size: 1rem; margin: 0; display: flex; gap: .7rem; }
section h2 .status { margin-left: auto; white-space: nowrap; }
section p { margin: .35rem 0 0; overflow-wrap: anywhere; }
section p.fault { color: var(--bad); } details { margin-top: .45rem; } summary { cursor: pointer; color: var(--soft); }
pre { overflow: auto; max-height: 24rem; font-size: .78rem; margin: .4rem 0 0; white-space: pre-wrap;
  overflow-wrap: anywhere; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def document(about: Mapping[str, Any], proof: Proof) -> dict[str, Any]:
    """What both files say.

    Args:
        about: "name" and "model" as in bundle.json.
        proof: the points.
    """
    from phi3kit.export.assemble import versions

    when = datetime.now(UTC).isoformat(timespec="seconds")
    here = {"when": when, "versions": versions()}
    return {"name": about["name"], "model": about["model"], **here, **proof.as_dict()}


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Both files.

    Args:
        folder: where; it is there already.
        content: as `document` makes it.
    """
    bundle.write(folder / DOCUMENT, bundle.as_json(content))
    bundle.write(folder / PAGE, page(content).encode())


def page(content: Mapping[str, Any]) -> str:
    """The page. `content` is as `document` makes it."""
    from phi3kit.corpus.scorers.page import STYLE as HOUSE

    title = f"{content['model']}: the proof {'holds' if content['holds'] else 'failed'}"
    parts = [
        f"<h1>{escape(content['model'])}</h1>",
        f'<p class="verdict {"passed" if content["holds"] else "failed"}">The proof {escape(content["verdict"])}.</p>',
        *map(_point, content["points"]),
        _origin(content),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{HOUSE}{STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _point(point: Mapping[str, Any]) -> str:
    """A point: its title, what was looked at, what is wrong, and all numbers to unfold."""
    status = point["status"]
    lines = [f'<p class="soft">{escape(point["not_run"])}</p>'] if point["not_run"] else []
    lines += [f"<p>{escape(line)}</p>" for line in point["told"]]
    lines += [f'<p class="fault">{escape(fault)}</p>' for fault in point["faults"]]
    if point["numbers"]:
        numbers = escape(json.dumps(point["numbers"], indent=1, ensure_ascii=False))
        lines.append(f"<details><summary>all numbers</summary><pre>{numbers}</pre></details>")
    head = (
        f"<h2><span>{point['number']}.</span><span>{escape(point['title'])}</span>"
        f'<span class="status">{MARKS[status]} {status}</span></h2>'
    )
    return f'<section class="{status.replace(" ", "-")}">{head}{"".join(lines)}</section>'


def _origin(content: Mapping[str, Any]) -> str:
    rows = {"model": content["name"], "when": content["when"], "computer": content["machine"], **content["versions"]}
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in rows.items())
    return f"<h2>Where it was looked at</h2><dl>{cells}</dl>"
