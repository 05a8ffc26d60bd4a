"""An export's report in a few lines, for people."""

from __future__ import annotations

from typing import Any

from phi3kit.export.proof import Proof


def headline(report: dict[str, Any], proof: Proof) -> list[str]:
    """Size, the proof's numbers, what quantization cost, and exact answers."""
    sizes = report["bytes"]
    share = sizes["program"] / sizes["float32_weights"]
    lines = [
        f"size: {_megabytes(sizes['program'])} program, {_megabytes(sizes['float32_weights'])} float32 weights "
        f"({share:.0%})",
        f"proof: {_in_short(proof)}",
    ]
    lines += quality(report.get("heldout", {}))
    if "block_errors" in report:
        errors = report["block_errors"]
        lines.append(
            f"random weights: each block's output differs from the float block's by {min(errors):.2%} to "
            f"{max(errors):.2%} (8-bit activations included)"
        )
    return lines + scores(report.get("questions", {}))


def _in_short(proof: Proof) -> str:
    """The numbers of a program that runs here, or which points were not looked at."""
    logits, runner = proof["logits"], proof["runner"]
    if not logits:
        return proof.verdict
    return (
        f"logits within {logits['largest_difference']:.2g} of the quantized net in PyTorch "
        f"(one activation step: {logits['activation_step']:.2g}), "
        f"{len(runner['differences'])} of {runner['tokens']} TextLLMRunner tokens differ"
    )


def quality(text: dict[str, Any]) -> list[str]:
    """The table of what quantization cost on held-out text: a row per measure, a column per form of the net."""
    if not text:
        return []
    columns, title = list(text["perplexity"]), f"{text['tokens']} held-out tokens"
    forms = {"perplexity": ("perplexity", ".2f"), "kl_to_float": ("KL to float, nats", ".4f")}
    forms["top1_agreement"] = ("top-1 agreement", ".1%")
    rows = [f"{title:<20}" + "".join(f"  {column:>9}" for column in columns)]
    for measure, (name, form) in forms.items():
        found = text[measure]
        cells = [f"{found[column]:{form}}" if column in found else "–" for column in columns]
        rows.append(f"{name:<20}" + "".join(f"  {cell:>9}" for cell in cells))
    return rows


def scores(questions: dict[str, Any]) -> list[str]:
    """The table of exact answers: a row per set of questions, a column per model."""
    if not questions:
        return []
    columns = list(dict.fromkeys(name for row in questions.values() for name in row["exact"]))
    width = max(len("exact answers"), *map(len, questions))
    rows = [f"{'exact answers':<{width}}  questions" + "".join(f"  {name:>9}" for name in columns)]
    rows += [
        f"{name:<{width}}  {row['questions']:>9}"
        + "".join(f"  {row['exact'][column]:>{max(9, len(column))}.1%}" for column in columns)
        for name, row in questions.items()
    ]
    return rows


def closing(report: dict[str, Any], model: str) -> list[str]:
    """The conversation held with the program."""
    turns = report.get("conversation", [])
    lines = [line for turn in turns for line in (f"  you> {turn['you']}", f"  phi> {turn['answer']}")]
    return ["", f"A conversation with {model}:", *lines] if lines else []


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"
