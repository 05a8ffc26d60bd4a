"""Raised and lowered signs of HTML as text, for web pages and for HTML in Markdown."""

from __future__ import annotations

import re
from html import escape, unescape

ATTRIBUTES = r"(?:[^<>\"']|\"[^\"]*\"|'[^']*')*"
SCRIPT = re.compile(r"<(su[pb])\b(?:\s[^<>]*)?>((?:(?!</?su[pb]\b).)*)</\1\s*>(?=(.?))", re.DOTALL | re.IGNORECASE)
TAG = re.compile(rf"</?[A-Za-z]{ATTRIBUTES}>|<!--.*?-->", re.DOTALL)
IN_LINK = re.compile(r"<a\b[^>]*>\s*\Z", re.IGNORECASE)
ORDINAL = re.compile(r"(?:st|nd|rd|th|er|re|e|è|ème|eme|de|te|o|a|os|as|º|ª|mo|ma|\[.*\]|[™®©℠*†‡§¶]+|[,;\s]*)\Z")
SIMPLE = re.compile(r"[-+−–]?(?:\d+|[^\W\d_])\Z|[-+−–*′″]\Z")


def scripts_to_text(source: str) -> str:
    """``10<sup>-6</sup>`` as ``10^-6``; ordinals (1st) and marks of notes ([1]) without a sign."""
    for _ in range(3):  # scripts in scripts, from the inside
        if "<su" not in source and "<SU" not in source:
            break
        source, n = SCRIPT.subn(_script, source)
        if not n:
            break
    return source


def _script(match: re.Match[str]) -> str:
    inside = TAG.sub("", match[2]).strip()
    if (
        "<a" in match[2]
        or IN_LINK.search(match.string, max(0, match.start() - 200), match.start())
        or "footnote" in match[0][: match.start(2) - match.start()]
    ):
        return match[2] if inside.startswith("[") or not inside.isdigit() else f"[{inside}]"
    return raised(unescape(inside), match[1].lower() == "sup", match[3])


def raised(text: str, up: bool, following: str = "") -> str:
    """A raised or lowered text, escaped for HTML."""
    if not text or (up and ORDINAL.match(text.lower())):
        return escape(text, quote=False)
    text = text.replace("−", "-")
    sign = "^" if up else "_"
    simple = SIMPLE.match(text) and not (len(text) > 1 and (following.isalnum() or following == "<"))
    simple = simple or (SIMPLE.match(text) and following == "<")
    return escape(f"{sign}{text}" if simple else f"{sign}{{{text}}}", quote=False)
