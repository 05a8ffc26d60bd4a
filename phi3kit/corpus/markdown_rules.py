"""A CommonMark parser that knows formulas and says where in the source it found what.

markdown-it-py's rules for stretches of a line are wrapped: each notes where it began and ended. Its blocks say which
lines they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

INLINE_MATH = re.compile(
    r"\$\$.+?\$\$|\$(?![\s$])(?:\\.|[^\\$])*?(?<!\s)\$(?![\d$])|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
    re.DOTALL,
)
CODE = ("fence", "code_block")
KINDS = {"link": "link", "image": "image", "tag": "html_inline", "code": "backticks", "entity": "entity"}
BLOCK_MATH = re.compile(r"\$\$|\\\[|\\begin\{(\w+\*?)\}")


class Found(NamedTuple):
    """A stretch of a block's content: what it is, where, and for links and images where their text is and where to."""

    kind: str
    start: int
    end: int
    text: tuple[int, int] = (0, 0)
    href: str = ""
    titled: bool = False
    inline: bool = True


@cache
def parser() -> Any:
    """The parser; what it finds within blocks stands in ``env["found"]``."""
    from markdown_it import MarkdownIt

    md = MarkdownIt("commonmark", {"inline_definitions": True}).enable("table")
    md.core.ruler.disable(["inline", "text_join"])
    md.validateLink = lambda url: True  # type: ignore[method-assign]
    rules = dict(zip(md.inline.ruler.get_active_rules(), md.inline.ruler.getRules(""), strict=True))
    for kind, name in KINDS.items():
        md.inline.ruler.at(name, _noted(kind, rules[name]))
    md.inline.ruler.before("escape", "math", _inline_math)
    md.block.ruler.before("table", "math_block", _block_math, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    return md


def _noted(kind: str, rule: Callable[[Any, bool], bool]) -> Callable[[Any, bool], bool]:
    def noting(state: Any, silent: bool) -> bool:
        start, depth = state.pos, state.env.get("depth", 0)
        state.env["depth"] = depth + (kind == "image")
        try:
            is_there = rule(state, silent)
        finally:
            state.env["depth"] = depth
        if is_there and not silent and not depth:
            state.env["found"].append(_described(kind, state, start))
        return is_there

    return noting


def _described(kind: str, state: Any, start: int) -> Found:
    if kind not in ("link", "image"):
        return Found(kind, start, state.pos)
    first = start + 1 + (kind == "image")
    last = state.md.helpers.parseLinkLabel(state, first - 1, kind == "link")
    opened = next(t for t in reversed(state.tokens) if t.type in ("link_open", "image"))
    href = str(opened.attrs.get("href") or opened.attrs.get("src") or "")
    inline = state.src[last + 1 : last + 2] == "(" and state.pos > last + 1
    return Found(kind, start, state.pos, (first, last), href, "title" in opened.attrs, inline)


def _inline_math(state: Any, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    found = INLINE_MATH.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        state.pending += found[0]
        if not state.env.get("depth", 0):
            state.env["found"].append(Found("math", state.pos, found.end()))
    state.pos = found.end()
    return True


def _block_math(state: Any, start: int, end: int, silent: bool) -> bool:
    """Lines from ``$$``, ``\\[`` or ``\\begin{…}`` at the beginning of one to the end of another."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    opened = BLOCK_MATH.match(line)
    if not opened or state.is_code_block(start):
        return False
    closing = {"$$": "$$", "\\[": "\\]"}.get(opened[0], rf"\end{{{opened[1]}}}")
    for last in range(start, end):
        if last > start and state.sCount[last] < state.blkIndent and not state.isEmpty(last):
            return False
        text = state.src[state.bMarks[last] : state.eMarks[last]]
        if last == start:
            text = line[opened.end() :]
        if closing in text:
            if not text.rstrip().endswith(closing) and last == start:
                return False  # a formula at the beginning of a sentence
            if not silent:
                token = state.push("math_block", "", 0)
                token.map = [start, last + 1]
                state.line = last + 1
            return True
    return False
