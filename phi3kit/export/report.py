"""An export's report in a few lines, for people."""

from __future__ import annotations

from typing import Any


def headline(report: dict[str, Any]) -> list[str]:
    """Size, what quantization cost, exact answers, and the proof's numbers."""
    sizes, proof = report["bytes"], report["verification"]
    share = sizes["program"] / sizes["float32_weights"]
    lines = [
        f"size: {_megabytes(sizes['program'])} program, {_megabytes(sizes['float32_weights'])} float32 weights "
        f"({share:.0%})",
        f"proof: logits within {proof['logits']['largest_difference']:.2g} of the quantized net in PyTorch "
        f"(one activation step: {proof['activation_step']:.2g}), "
        f"{len(proof['runner']['differences'])} of {proof['runner']['tokens']} TextLLMRunner tokens differ",
    ]
    if "heldout" in report:
        text = report["heldout"]
        worse = text["perplexity"]["program"] / text["perplexity"]["float"]
        lines.append(
            f"quantization on held-out text: KL to float {text['kl_to_float']:.4f} nats, top-1 agreement "
            f"{text['top1_agreement']:.1%}, perplexity x{worse:.3f}"
        )
    return lines + scores(report.get("questions", {}))


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
