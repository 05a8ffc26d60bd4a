"""The manifest: what came in, what left and why, by step and by source; what of, made by which versions."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from phi3kit import __version__
from phi3kit.corpus.engine.describe import sha256_of
from phi3kit.corpus.plan import Plan
from phi3kit.corpus.stages.choose import totals
from phi3kit.corpus.stages.read import listed, skipped_of, unreadable_of

DECIDING = (
    *("datatrove", "litdata", "pyarrow", "numpy", "tokenizers", "tiktoken"),
    *("trafilatura", "resiliparse", "py3langid", "scikit-learn", "regex"),
)


def manifest_of(plan: Plan, parts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Everything the manifest says.

    Args:
        plan: all of whose stages are done.
        parts: of `write_folder`.
        folder: that it wrote.
    """
    phases = [query.name for query in plan.asked.queries]
    read = _sum(plan.read, "read")
    rejected = _reasons(plan)
    return {
        "phi3kit": __version__,
        "tokenizer": _tokenizer(plan),
        "parts": parts,
        "read": read,
        "kept": _sum(plan.scored, "kept"),
        "rejected": dict(rejected.most_common()),
        **({"unreadable": unreadable} if (unreadable := _unreadable(plan)) else {}),
        **({"skipped": skipped} if (skipped := skipped_of(plan.read)) else {}),
        "left_out": {name: dict(totals(plan.choice, name, "rejected").most_common()) for name in phases},
        "exercises": _sum(plan.exercises, "kept") if plan.exercises else 0,
        "synthesis": _synthesis(plan),
        **{kind: plan.chats.counts()[0][kind] for kind in ("chat", "preferences")},
        "chat_files": plan.chats.counts()[0]["files"],
        "left_out_of_chats": _left_out(plan),
        "benchmarks": _benchmarks(plan),
        "steps": list(_steps(plan)),
        "sources": _sources(plan, phases),
        "scores": plan.distributions(),
        "epochs": plan.epochs,
        "holdout": plan.asked.holdout,
        "inputs": plan.inputs(),
        "outputs": _outputs(folder),
        "versions": _versions(),
    }


def _sum(done: Any, what: str) -> int:
    return sum(counts[what] for rank in done.counts() for counts in rank["sources"].values())


def _reasons(plan: Plan) -> Counter[str]:
    """Why documents left before the scored set."""
    reasons: Counter[str] = Counter()
    unreadable = _sum(plan.read, "unreadable")
    if unreadable:
        reasons["unreadable"] = unreadable
    for done in (plan.sift, plan.scored):
        for rank in done.counts():
            reasons.update(rank["rejected"])
    return reasons


def _tokenizer(plan: Plan) -> dict[str, Any]:
    """About the tokenizer; `asked` where it was to have more ids than the documents have pieces for."""
    about: dict[str, Any] = plan.vocabulary.counts()[0]
    asked = plan.asked.vocab_size
    return about if asked in (None, about["vocab_size"]) else about | {"asked": asked}


def _unreadable(plan: Plan) -> dict[str, Any]:
    """Source -> how many of its documents cannot be read, and why the first; of sources that have such."""
    return {source: {"documents": n, "first": first} for source, (_, n, first) in unreadable_of(plan.read).items()}


def _synthesis(plan: Plan) -> dict[str, Any]:
    """What was made, why something was not, and why made documents left again."""
    makers = {"chats": plan.chats, **({"exercises": plan.made} if plan.made else {})}
    refused: Counter[str] = Counter()
    for done in makers.values():
        for rank in done.counts():
            refused.update(rank["refused"])
    rejected: Counter[str] = Counter()
    for done in filter(None, (plan.made_sifted, plan.exercises)):
        for rank in done.counts():
            rejected.update(rank["rejected"])
    made = sum(rank["documents"] for rank in plan.made.counts()) if plan.made else 0
    return {"made": made, "refused": dict(refused.most_common()), "rejected": dict(rejected.most_common())}


def _left_out(plan: Plan) -> dict[str, dict[str, int]]:
    """Why conversations and preferences left: part -> reason -> how many."""
    counts = plan.chats.counts()[0]
    reasons = (("gives a benchmark question away", "contaminated"), ("nearly the same as one before", "repeated"))
    found = {part: {told: counts[key][part] for told, key in reasons} for part in ("chat", "preferences")}
    return {part: {told: n for told, n in told_of.items() if n} for part, told_of in found.items()}


def _benchmarks(plan: Plan) -> dict[str, Any]:
    """The files looked for, and how often each benchmark was met, by kind."""
    hits: Counter[str] = Counter()
    for done in (plan.scored, *([plan.exercises] if plan.exercises else []), plan.chats):
        for rank in done.counts():
            hits.update(rank["hits"])
    short = Counter(question.benchmark for question in plan.questions.load().too_short) if plan.questions.files else {}
    files = {file.name: sha256_of(file) for file in plan.questions.files}
    return {"files": files, "hits": dict(sorted(hits.items())), "too_short": dict(short)}


def _steps(plan: Plan) -> Iterable[dict[str, Any]]:
    """Each step that judges: what came in, what went on, why the rest did not."""
    read = _sum(plan.read, "read")
    unreadable = _sum(plan.read, "unreadable")
    yield {"step": "read", "in": read, "out": read - unreadable, "rejected": {"unreadable": unreadable}}
    for done in (plan.sift, plan.scored):
        reasons: Counter[str] = Counter()
        for rank in done.counts():
            reasons.update(rank["rejected"])
        yield {"step": done.name, "in": _sum(done, "read"), "out": _sum(done, "kept"), "rejected": dict(reasons)}


def _sources(plan: Plan, phases: list[str]) -> dict[str, dict[str, Any]]:
    """Documents of each source, step by step, and in each phase."""
    found: dict[str, Counter[str]] = {}
    steps = (("read", plan.read, "read"), ("sifted", plan.sift, "kept"), ("kept", plan.scored, "kept"))
    for label, done, what in steps:
        for rank in done.counts():
            for source, counts in rank["sources"].items():
                found.setdefault(source, Counter())[label] += counts[what]
    for phase in phases:
        for source, n in totals(plan.choice, phase, "documents").items():
            found[source][phase] += n
    about = {source.name: source for source in plan.asked.sources}
    return {
        name: {**{label: counts[label] for label in ("read", "sifted", "kept", *phases)}}
        | ({"licence": about[name].licence, "synthetic": about[name].synthetic} if name in about else {})
        for name, counts in found.items()
    }


def _outputs(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        file.relative_to(folder).as_posix(): {"sha256": sha256_of(file), "bytes": file.stat().st_size} for file in files
    }


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in DECIDING:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def headline(manifest: dict[str, Any]) -> list[str]:
    """The manifest in a few lines."""
    rejected = list(manifest["rejected"].items())
    lines = [
        f"{manifest['read']} documents read, {manifest['kept']} kept"
        + (f"; rejected: {', '.join(f'{n} × {reason}' for reason, n in rejected[:4])}" if rejected else "")
    ]
    for source, about in manifest.get("unreadable", {}).items():
        n = about["documents"]
        lines.append(f"{source}: {n} cannot be read, {'the first' if n > 1 else 'which is'}: {about['first']}")
    for source, kinds in manifest.get("skipped", {}).items():
        lines.append(f"{source}: skipped, for they are no documents: {listed(kinds)}")
    lines += _of_chat_files(manifest["chat_files"])
    refused = manifest["synthesis"]["refused"].items()
    if refused:
        lines.append(f"not made: {', '.join(f'{n} × {reason}' for reason, n in list(refused)[:4])}")
    for part, splits in manifest["parts"].items():
        counts = ", ".join(f"{s} {c['documents']} documents / {c['tokens']:,} tokens" for s, c in splits.items())
        lines.append(f"{part}: {counts}")
    for kind in ("chat", "preferences"):
        if manifest[kind]:
            lines.append(f"{kind}: " + ", ".join(f"{split} {n}" for split, n in manifest[kind].items()))
    about = manifest["tokenizer"]
    fewer = f", not {about['asked']}: these documents hold no more pieces" if "asked" in about else ""
    lines.append(f"tokenizer: {about['class']} of {about['vocab_size']} ids{fewer}")
    return lines


def _of_chat_files(files: dict[str, Any]) -> Iterable[str]:
    """What of the files of chats is not used."""
    for file, about in files.items():
        if n := about["unreadable"]:
            yield f"{file}: {n} of {about['rows']} rows cannot be used and are left out, the first: {about['first'][0]}"
        if unused := about["unused_fields"]:
            yield f"{file}: fields that are not used: " + ", ".join(f"{name} ({n} rows)" for name, n in unused.items())
