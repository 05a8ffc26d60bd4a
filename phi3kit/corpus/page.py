"""The manifest as one page of HTML for people: what came in, what left and why, the scores, and texts to look at.

No scripts, nothing loaded from elsewhere; every text of a document is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from phi3kit.corpus.scorers.page import STYLE
from phi3kit.corpus.scorers.plots import histogram

MORE = """
.flow { display: grid; grid-template-columns: 9rem 1fr 7rem; gap: .35rem .8rem; align-items: center; margin: 1rem 0; }
.flow svg { height: 1.4rem; } .left { fill: var(--warn); opacity: .55; } .flow .number { text-align: right; }
.stack { height: 1.6rem; } details { margin: .4rem 0; } summary { cursor: pointer; }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: .8rem; }
.sample { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; font-size: .85rem; }
.sample p { margin: .3rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 12rem; overflow: auto; }
code { font-size: .8rem; overflow-wrap: anywhere; } td.number, th.number { text-align: right; }
"""
REASONS = 15  # rows of a table of reasons before the rest is summed up


def page(manifest: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The whole page.

    Args:
        manifest: as `manifest_of` makes it.
        samples: kind -> a few documents.
    """
    title = f"{manifest['kept']:,} of {manifest['read']:,} documents"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">phi3kit {escape(manifest["phi3kit"])} · tokenizer {escape(_tokenizer(manifest))}</p>',
        _numbers(manifest),
        _flow(manifest),
        _reasons(manifest),
        _synthesis(manifest),
        _sources(manifest),
        _phases(manifest),
        *(_aspect(aspect, about) for aspect, about in manifest["scores"].items()),
        _benchmarks(manifest, samples),
        _samples(samples),
        _origin(manifest),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{MORE}</style></head>\n<body>\n'
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _tokenizer(manifest: Mapping[str, Any]) -> str:
    about = manifest["tokenizer"]
    return f"{about['class']}, {about['vocab_size']:,} ids, {about['fingerprint'][:12]}"


def _numbers(manifest: Mapping[str, Any]) -> str:
    shown = [(manifest["read"], "documents read"), (manifest["kept"], "kept")]
    shown += [
        (sum(split["tokens"] for split in splits.values()), f"tokens of {part}")
        for part, splits in manifest["parts"].items()
    ]
    shown += [(sum(manifest[kind].values()), kind) for kind in ("chat", "preferences") if manifest[kind]]
    cells = "".join(f"<div><b>{n:,}</b>{escape(label)}</div>" for n, label in shown)
    return f'<div class="numbers">{cells}</div>'


def _flow(manifest: Mapping[str, Any]) -> str:
    """A bar per step: what went on, and what left."""
    most = max(manifest["read"], 1)
    rows = []
    for step in manifest["steps"]:
        came, went = step["in"] / most * 100, step["out"] / most * 100
        name = f"{step['out']} of {step['in']}"
        bar = (
            f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{name}">'
            f'<rect class="kept" width="{went:.2f}" height="10"/>'
            f'<rect class="left" x="{went:.2f}" width="{came - went:.2f}" height="10"/></svg>'
        )
        label = STEPS.get(step["step"], step["step"])
        rows.append(f"<span>{escape(label)}</span>{bar}<span class='number'>{step['out']:,} of {step['in']:,}</span>")
    return f'<h2>From step to step</h2><div class="flow">{"".join(rows)}</div>'


STEPS = {"read": "readable", "sift": "passed filters", "scored": "no duplicate, no benchmark"}


def _reasons(manifest: Mapping[str, Any]) -> str:
    """Who left, why, and how many."""
    total = max(sum(manifest["rejected"].values()), 1)
    reasons = sorted(manifest["rejected"].items(), key=lambda item: -item[1])
    rows = [[escape(reason), f"{n:,}", f"{100 * n / total:.1f} %", _bar(n / total)] for reason, n in reasons[:REASONS]]
    if rest := sum(n for _, n in reasons[REASONS:]):
        rows.append([f"{len(reasons) - REASONS} further reasons", f"{rest:,}", f"{100 * rest / total:.1f} %", ""])
    if not rows:
        return ""
    heads = ["reason", "documents", "of those that left", ""]
    return f"<h2>Why documents left</h2>{_table(heads, rows, numbers=(1, 2))}"


def _synthesis(manifest: Mapping[str, Any]) -> str:
    """What was made out of documents or topics, and what became of it."""
    about = manifest["synthesis"]
    kinds = (("not made", "refused"), ("made, and left out", "rejected"))
    rows = [[said, escape(reason), f"{n:,}"] for said, kind in kinds for reason, n in about[kind].items()]
    if not (about["made"] or rows):
        return ""
    lost = _table(["", "reason", "times"], rows, numbers=(2,)) if rows else ""
    return (
        f"<h2>Synthetic texts</h2><p>{about['made']:,} were made for the last phase, {manifest['exercises']:,} of them "
        f"kept. None is in the first phase.</p>{lost}"
    )


def _bar(share: float) -> str:
    width = f"{100 * share:.1f}"
    return (
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" style="height:.7rem;min-width:8rem" aria-hidden="true">'
        f'<rect class="left" width="{width}" height="8"/></svg>'
    )


def _sources(manifest: Mapping[str, Any]) -> str:
    sources: Mapping[str, Mapping[str, Any]] = manifest["sources"]
    phases = list(manifest["parts"])
    heads = ["source", "read", "passed filters", "kept", *(f"in {phase}" for phase in phases), "licence"]
    rows = []
    for name, counts in sorted(sources.items(), key=lambda item: -item[1]["read"]):
        mark = ' <span class="soft">synthetic</span>' if counts.get("synthetic") else ""
        numbers = [f"{counts[label]:,}" for label in ("read", "sifted", "kept", *phases)]
        rows.append([f"{escape(name)}{mark}", *numbers, escape(counts.get("licence", ""))])
    return f"<h2>Sources</h2>{_table(heads, rows, numbers=range(1, 4 + len(phases)))}"


def _phases(manifest: Mapping[str, Any]) -> str:
    parts = []
    for phase, splits in manifest["parts"].items():
        rows = [[split, f"{c['documents']:,}", f"{c['tokens']:,}"] for split, c in splits.items()]
        parts.append(f"<h3>{escape(phase)}</h3>{_table(['split', 'documents', 'tokens'], rows, numbers=(1, 2))}")
        if epochs := manifest["epochs"].get(phase):
            told = ", ".join(f"{escape(source)} {times:.2f}" for source, times in epochs.items())
            parts.append(f'<p class="soft">epochs of each source: {told}</p>')
        if left := manifest["left_out"].get(phase):
            told = ", ".join(f"{n:,} × {escape(reason)}" for reason, n in left.items())
            parts.append(f'<p class="soft">left out: {told}</p>')
    for part, reasons in manifest["left_out_of_chats"].items():
        if reasons:
            told = ", ".join(f"{n:,} × {escape(reason)}" for reason, n in reasons.items())
            parts.append(f'<p class="soft">left out of {escape(part)}: {told}</p>')
    return "<h2>Phases</h2>" + "".join(parts)


def _aspect(aspect: str, about: Mapping[str, Any]) -> str:
    """A score: its histogram by source, and what each threshold would leave."""
    edges = about["histogram"]["edges"]
    plots = [
        f"<figure>{histogram(edges, counts, None, aspect)}<figcaption>{escape(name)}, {sum(counts):,} documents"
        "</figcaption></figure>"
        for name, counts in about["histogram"]["documents"].items()
    ]
    rows = about["thresholds"]
    names = list(rows[0]["sources"])
    whole = max(rows[0]["tokens"], 1)
    cells = [
        [f"{row['least']:.3g}", f"{row['documents']:,}", f"{row['tokens']:,}", f"{100 * row['tokens'] / whole:.1f} %"]
        + [f"{row['sources'][name]:,}" for name in names]
        for row in rows
    ]
    heads = ["at least", "documents", "tokens", "of all", *(escape(name) for name in names)]
    return (
        f'<h2>Score: {escape(aspect)}</h2><div class="plots">{"".join(plots)}</div>'
        f"<p>What each threshold would leave, in tokens of each source:</p>"
        f"{_table(heads, cells, numbers=range(len(heads)))}"
    )


def _benchmarks(manifest: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    about = manifest["benchmarks"]
    if not about["files"]:
        return ""
    rows = [[*map(escape, key.rsplit(", ", 1)), f"{n:,}"] for key, n in about["hits"].items()]
    found = _table(["benchmark", "kind of match", "times"], rows, numbers=(2,)) if rows else "<p>Nothing was found.</p>"
    return (
        f"<h2>Benchmarks in the data</h2><p>Looked for {len(about['files'])} files' questions. A document that gives a "
        "question away was dropped; phrases and wording that many questions share are only reported. Every match, with "
        f"its words, is in <code>contamination.jsonl</code>.</p>{found}{_too_short(about['too_short'])}"
    )


def _too_short(questions: Mapping[str, int]) -> str:
    """How many questions of each benchmark nobody can tell from what is written by chance."""
    if not questions:
        return ""
    told = ", ".join(f"{n:,} of {escape(name)}" for name, n in questions.items())
    return (
        f'<p class="soft">Questions too short to be told from what anybody might write, and only reported: {told}.</p>'
    )


def _samples(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Documents to look at: those kept first, then those on either side of a limit, then those rejected."""
    order = sorted(samples, key=lambda kind: (ORDER.index(kind.split()[0]), kind))
    parts = []
    for number, kind in enumerate(order):
        cards = "".join(_card(sample) for sample in samples[kind])
        opened = " open" if number < 4 else ""
        parts.append(f'<details{opened}><summary>{escape(kind)}</summary><div class="samples">{cards}</div></details>')
    return f"<h2>Texts to look at</h2>{''.join(parts)}" if parts else ""


ORDER = ("kept", "just", "left", "rejected")


def _card(sample: Mapping[str, Any]) -> str:
    reason = f"<br><b>{escape(str(sample['reason']))}</b>" if "reason" in sample else ""
    head = f'<span class="soft">{escape(sample["source"])}</span> <code>{escape(sample["id"])}</code>{reason}'
    return f'<div class="sample">{head}<p>{escape(sample["text"])}</p></div>'


def _origin(manifest: Mapping[str, Any]) -> str:
    """Versions and checksums."""
    versions = ", ".join(f"{escape(name)} {escape(v)}" for name, v in manifest["versions"].items())
    tables = []
    for kind in ("inputs", "outputs"):
        rows = [
            [f"<code>{escape(name)}</code>", f"{about['bytes']:,}", f"<code>{about['sha256']}</code>"]
            for name, about in manifest[kind].items()
        ]
        table = _table(["file", "bytes", "sha256"], rows, numbers=(1,))
        tables.append(f"<details><summary>{len(rows):,} {kind}</summary>{table}</details>")
    return (
        f"<h2>Where it comes from</h2><p>{versions}</p>"
        f"<p>{manifest['holdout']:.1%} of the documents are held out, chosen by their ids.</p>{''.join(tables)}"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of cells that are HTML already; columns of numbers stand to the right."""
    right = set(numbers)
    kind = [' class="number"' if i in right else "" for i in range(len(heads))]
    head = "".join(f"<th{k}>{h}</th>" for k, h in zip(kind, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kind, row, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
