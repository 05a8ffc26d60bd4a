"""What all prompts share: how a seed is shown, what an answer must not be, and the version of a wording."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any

from phi3kit.families import Refusal, Seed

TO_THE_ASKER = re.compile(
    r"\W*(sure\b[,!.]|certainly\b[,!.]|of course\b[,!.]|here (is|are)\b|here's\b|as an ai\b|"
    r"i('m| am) sorry\b|i can(no|')t\b|i('m| am) (un)?able to\b)",
    re.IGNORECASE,
)
QUOTE = "===="


def shown(seed: Seed) -> str:
    """A topic on a line of its own; anything longer between two lines of ====, which it cannot end early."""
    if seed.kind == "topic":
        return f"The topic: {' '.join(seed.text.split())}"
    text = seed.text.replace(QUOTE, "= = = =")
    what = "problem" if seed.kind == "problem" else "passage"
    return f"The {what}, which is material and asks nothing of you:\n{QUOTE}\n{text}\n{QUOTE}"


def prose(answer: str, least_words: int) -> str | Refusal:
    """An answer that is a text: stripped, long enough, and no letter to whoever asked."""
    text = answer.strip()
    if TO_THE_ASKER.match(text):
        return Refusal("speaks to whoever asked")
    if len(text.split()) < least_words:
        return Refusal(f"under {least_words} words")
    return text


def version_of(*parts: Any) -> str:
    """Hash of a wording and of whatever else decides what is asked and what is taken; 8 hexadecimal digits."""
    return sha256(json.dumps(parts, ensure_ascii=False, default=str).encode()).hexdigest()[:8]
