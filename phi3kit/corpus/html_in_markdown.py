"""HTML within Markdown: which angle brackets are tags, and what stands for them in a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape, unescape
from typing import Any

from phi3kit.corpus.markup import TAG, scripts_to_text
from phi3kit.corpus.mathml import math_to_tex

ELEMENTS = (  # noqa: SIM905 (readable as words)
    "a abbr acronym address article aside audio b bdi bdo big blockquote body button canvas caption center "
    "cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em fieldset figcaption "
    "figure font footer form h1 h2 h3 h4 h5 h6 head header hgroup html i iframe ins kbd label legend li main "
    "map mark menu nav noscript object ol optgroup option output p picture pre progress q rp rt ruby s samp "
    "section select small span strike strong sub summary sup table tbody td template textarea tfoot th thead "
    "time title tr tt u ul var video"
).split()
EMPTY = ("br", "hr", "wbr")
EMPTY_WITH_ATTRIBUTES = ("area", "base", "embed", "img", "input", "link", "meta", "param", "source", "track")
CLOSED_BY_OTHERS = ("p", "li", "dt", "dd", "td", "th", "tr", "thead", "tbody", "tfoot", "option", "col", "colgroup")
BARE = (  # noqa: SIM905 (readable as words)
    "allowfullscreen async autoplay checked compact controls defer disabled download hidden itemscope loop "
    "multiple muted noshade nowrap open readonly required reversed selected"
).split()
NAME = re.compile(r"<(/?)([A-Za-z][\w:-]*)")
VALUE = re.compile(r"[\w:@.-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'=<>`]+)")
LINES = (  # noqa: SIM905 (readable as words)
    "article aside blockquote caption center details div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 "
    "header hr main ol p section summary table tr ul"
).split()
# Elements that go through as a whole, whatever blank lines are within.
WHOLE = re.compile(
    r"<!--.*?-->|<(?P<name>(?:\w+:)?math|script|style|svg|iframe|table|pre|template)\b(?=[\s/>]).*?</(?P=name)\s*>"
    r"|<(?P<script>su[pb])\b(?:\s[^<>\n]*)?>(?:(?!</?su[pb]\b|\n\n).){1,300}?</(?P=script)>",
    re.DOTALL | re.IGNORECASE,
)
ALT = re.compile(r"(?<=[\s\"'])alt\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'=<>`]+))", re.IGNORECASE)
MATH = re.compile(r"<math\b.*?</math\s*>", re.DOTALL | re.IGNORECASE)
GOES_ON = re.compile(r"[ \t]*\n(?:[ \t]*\n)+(?=[,.;:!?)](?!\w)| [a-z*(\[])")  # a paragraph broken behind a formula


def is_markup(tag: str, closed: frozenset[str] | set[str]) -> bool:
    """Whether something between angle brackets is a tag of HTML, and not ``vector<i>`` or ``a<b and c>d``.

    Args:
        tag: with its brackets.
        closed: names of the elements that are closed somewhere in the text.
    """
    if tag.lower().startswith(("<!--", "<!doctype", "<![cdata[", "<?")):
        return True
    found = NAME.match(tag)
    if not found or not (found[2].islower() or found[2].isupper()):
        return False
    name, rest = found[2].lower(), tag[found.end() : -1].rstrip("/").strip()
    if found[1]:
        return not rest and (name in ELEMENTS or "-" in name)
    if not set(VALUE.sub(" ", rest).lower().split()) <= {*BARE}:
        return False
    if name in EMPTY or (name in EMPTY_WITH_ATTRIBUTES and rest):
        return True
    is_closed = name in CLOSED_BY_OTHERS or name in closed or tag.endswith("/>")
    return is_closed and (name in ELEMENTS or "-" in name)


def closed_in(text: str) -> set[str]:
    """Names of the elements that are closed in a text."""
    return {name.lower() for name in re.findall(r"</([A-Za-z][\w:-]*)\s*>", text)}


def tag_to_text(tag: str) -> str:
    """What stands for a tag: a new line, a cell's border, a formula's or picture's words, or nothing."""
    found = NAME.match(tag)
    name = found[2].lower() if found else ""
    if not found:
        return ""
    if name == "img":
        words = ALT.search(tag)
        return unescape(next(filter(None, words.groups()), "")) if words else ""
    if name == "br" or (name in LINES and found[1]):
        return "\n"
    if name == "li" and not found[1]:
        return "\n- "
    if name in ("sup", "sub") and not tag.endswith("/>"):
        return "}" if found[1] else ("^{" if name == "sup" else "_{")
    return ""


def elements_to_text(text: str, code: Sequence[tuple[int, int]]) -> str:
    """Markdown whose formulas, tables and scripts are text, and which has no comments; code stays."""
    out: list[str] = []
    spans, at, i = sorted(code), 0, 0
    position = 0
    while found := WHOLE.search(text, position):
        while i < len(spans) and spans[i][1] <= found.start():
            i += 1
        if i < len(spans) and spans[i][0] <= found.start():
            position = spans[i][1]
            continue
        out += [text[at : found.start()], _element(found, text)]
        at = position = found.end()
        if (found["name"] or "").lower().endswith("math") and "block" not in found[0][: found[0].index(">")]:
            at = position = joined.end() if (joined := GOES_ON.match(text, at)) else at
            if joined and text[at] not in ",.;:!?)":
                out.append(" ")
                at += 1 if text[at] == " " else 0
    return "".join([*out, text[at:]])


def _element(found: re.Match[str], text: str) -> str:
    name = (found["name"] or "").lower()
    if name.endswith("math"):
        return math_to_tex(found[0])
    if found["script"]:
        return scripts_to_text(found[0] + text[found.end() : found.end() + 1])[
            : -1 if found.end() < len(text) else None
        ]
    if name == "pre":
        return f"```\n{unescape(TAG.sub('', found[0])).strip(chr(10))}\n```"
    return _table(found[0]) if name == "table" else ""


def _table(source: str) -> str:
    """A table's rows as lines, its cells between bars; escaped as in HTML."""
    from lxml import html

    source = re.sub(WHOLE, lambda m: m[0] if m["name"] in ("table", "pre") else _element(m, ""), source[6:-8])
    table = html.fragment_fromstring(f"<table{source}</table>")
    lines = [_cell(caption) for caption in table.iter("caption")]
    for row in table.iter("tr"):
        lines.append(f"| {' | '.join(_cell(cell) for cell in row if cell.tag in ('td', 'th'))} |")
    return "\n\n" + "\n".join(lines) + "\n\n"


def _cell(cell: Any) -> str:
    for inner in cell.iter():
        inner.tail = f" {inner.tail or ''}" if inner.tag in ("p", "div", "br", "li", "pre") else inner.tail
    return escape(" ".join(cell.text_content().split()), quote=False)
