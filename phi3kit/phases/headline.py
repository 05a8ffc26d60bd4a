"""A run's report in a few lines."""

from __future__ import annotations

from typing import Any


def headline(report: dict[str, Any]) -> list[str]:
    """What a training run reached, for people: losses before and after, and what its callbacks measured."""
    before, after = report["before"], report["after"]
    lines = [
        f"held-out {name.replace('_', ' ')} {before[name]:.3f} -> {after[name]:.3f}" for name in after if name in before
    ]
    lines = lines or ["held-out data was not measured"]
    lines[:1] = [f"{lines[0]}  (training loss {report['train_loss']:.3f}, {report['steps']} steps)"]
    by_length = report.get("loss_by_length_after")
    if by_length:
        unextended = report["loss_by_length_before"]
        lines += [
            f"held-out loss at {length} tokens: {unextended[length]:.3f} unextended -> {by_length[length]:.3f}"
            for length in by_length
        ]
    return lines
