"""From Markdown to text: what only a renderer needs is taken out of the source, all else stays as written.

A CommonMark parser says what is code, a link, a definition, a tag. Formulas are added to it, since it would take their
signs for markup.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator
from html import unescape
from typing import Any, NamedTuple, final

from phi3kit.corpus.extractors import PlainText
from phi3kit.corpus.html_in_markdown import closed_in, elements_to_text, is_markup, tag_to_text
from phi3kit.corpus.markdown_rules import CODE, Found, parser
from phi3kit.families import Extractor

FRONT = re.compile(r"\A(---|\+\+\+)[ \t]*\n(?![ \t]*\n)((?:.*\n)*?)(?:\1|\.\.\.)[ \t]*(?:\n|\Z)")
KEY = re.compile(r"[\w.@$-]+\Z")
# {: .class #id key="value"} of kramdown, wherever it stands, and {#id .class} behind a heading.
ITEM = r"(?:[.#][A-Za-z][\w:.-]*|[A-Za-z][\w:-]*=(?:\"[^\"\n]*\"|'[^'\n]*')|toc)"
ATTRIBUTES = re.compile(
    rf"\{{:(?:[ \t]*{ITEM}(?:[ \t]+{ITEM})*)?[ \t]*:?\}}|\{{::[^{{}}\n]*/?\}}|\{{:/[a-z]*\}}"
    rf"|(?<=\S)[ \t]+\{{{ITEM}(?:[ \t]+{ITEM})*[ \t]*\}}(?=[ \t]*#*[ \t]*$)",
    re.MULTILINE,
)
LINK_ITSELF = re.compile(r"\\?\[link\\?\]\Z")  # the text of references that only a web site resolves
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|//|[./#?]|[\w%-]+[/#?]|[\w%./-]+\.[A-Za-z]\w{0,4}(?:[#?]|\Z)|\S+@\S+\.", re.I)
LIKELY = re.compile(r"[A-Za-z][\w%+]*[-_%+]\S+\Z|.*[./#?:@]")
CODE_IN_LINE = re.compile(r"(?<!`)(`+)(?!`)[^\n]+?(?<!`)\1(?!`)")
ALONE = re.compile(r"[ \t]*\((?:[Ss]ee )?\Z")  # (See …)
CLOSING = re.compile(r"\.?\)")
NUMBER = re.compile(r"[\d.,+-]*\Z")


class Edit(NamedTuple):
    """What stands in the place of a stretch of the source."""

    start: int
    end: int
    text: str


@final
class Markdown(Extractor):
    """Markdown without what only a renderer needs: front matter, comments, tags, addresses of links.

    Headings, lists, emphasis, formulas and code stay as written; MathML becomes TeX, and an HTML table lines.
    """

    def extract(self, content: bytes, name: str) -> str:
        """The text. Raises `UserError` with the file and the first bad byte."""
        text = _without_front_matter(PlainText().extract(content, name))
        if "<" in text:
            text = elements_to_text(text, _code(text))
        out, at = [], 0
        for edit in _edits(text):
            out += [text[at : edit.start], edit.text]
            at = edit.end
        text = re.sub(r"\n{3,}", "\n\n", "".join([*out, text[at:]])).replace("\x00", "\n")
        return re.sub(r"\A(?:[ \t]*\n)+", "", text).rstrip() + "\n"


def _without_front_matter(text: str) -> str:
    found = FRONT.match(text)
    if not found or (found[2] and not _is_keys(found[2], toml=found[1] == "+++")):
        return text
    return text[found.end() :]


def _is_keys(text: str, toml: bool) -> bool:
    import yaml

    try:
        keys = tomllib.loads(text) if toml else yaml.safe_load(text)
    except yaml.YAMLError:  # as of templates ({{ title }})
        return all(re.match(r"[\w-]+[ \t]*:|[ \t#}\]-]|\Z", line) for line in text.splitlines())
    except tomllib.TOMLDecodeError:
        return False
    return isinstance(keys, dict) and all(KEY.match(str(key)) for key in keys)


def _code(text: str) -> list[tuple[int, int]]:
    """Stretches of code: blocks by the parser, code within lines by its signs."""
    starts = _line_starts(text)
    tokens = parser().parse(text, {"found": []})
    blocks = [(starts[token.map[0]], starts[token.map[1]]) for token in tokens if token.type in CODE]
    return blocks + [found.span() for found in CODE_IN_LINE.finditer(text)]


def _line_starts(text: str) -> list[int]:
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    return starts if starts[-1] == len(text) else [*starts, len(text)]


def _edits(text: str) -> list[Edit]:
    """What is to be changed in a source, in order and apart."""
    md, starts, closed = parser(), _line_starts(text), closed_in(text)
    env: dict[str, Any] = {"found": []}
    edits: list[Edit] = []
    quiet: list[tuple[int, int]] = []  # code and formulas, in which nothing changes
    line = reached = 0
    for token in md.parse(text, env):
        line = token.map[0] if token.map else line
        span = (starts[token.map[0]], starts[token.map[1]]) if token.map else (0, 0)
        if token.type in CODE:
            quiet.append(span)
            edits.append(Edit(span[0], span[1], text[slice(*span)].replace("\n", "\x00")))  # its blank lines stay
        elif token.type == "math_block":
            quiet.append(span)
        elif token.type == "definition":
            if ADDRESS.match(token.meta["url"]) and not token.meta["label"].startswith("^"):
                edits.append(Edit(span[0], span[1], ""))
        elif token.type in ("inline", "html_block") and token.content.strip():
            content = token.content.rstrip("\n")
            place = _Place.of(text, content, max(starts[line], reached), starts)
            if place is None:
                continue
            reached = place[len(content)]
            env["found"] = []
            if not any(sign in content for sign in "[<&{"):  # nothing to change (quickly past plain prose)
                continue
            md.inline.parse(content, md, env, [])
            for found in env["found"]:
                if found.kind in ("code", "math"):
                    quiet.append((place[found.start], place[found.end]))
                edits += _changes(found, place, text, closed)
    edits += [Edit(*found.span(), "") for found in ATTRIBUTES.finditer(text) if not _within(found.start(), quiet)]
    return _apart(edits)


def _changes(found: Found, place: _Place, text: str, closed: set[str]) -> Iterator[Edit]:
    start, end = place[found.start], place[found.end]
    if found.kind == "tag":
        if is_markup(text[start:end], closed):
            yield Edit(start, end, tag_to_text(text[start:end]))
    elif found.kind == "entity":
        yield Edit(start, end, unescape(text[start:end]).replace("\u00a0", " "))
    elif found.kind in ("link", "image"):
        first, last = place[found.text[0]], place[found.text[1]]
        label = text[first:last]
        if found.kind == "link" and LINK_ITSELF.match(label):
            before, after = ALONE.search(text[max(0, start - 10) : start]), CLOSING.match(text, end)
            if before and after:
                start, end = start - len(before[0]), after.end()
            yield Edit(start, end, "")
        elif found.kind == "image" or _is_link(found, label, text[start - 1 : start]):
            yield Edit(start, first, "")
            yield Edit(last, end, "")


def _is_link(found: Found, label: str, before: str) -> bool:
    """Whether a link is meant, and not ``a[i](j)`` or the captures of a function."""
    if not found.inline:
        return not (label.isdigit() or label.startswith("^"))  # [1] may well be a source
    if found.titled:
        return True
    if before.isalnum() or before in tuple(")]_"):
        return bool(ADDRESS.match(found.href))
    return not found.href or bool(label.strip() and LIKELY.match(found.href) and not NUMBER.match(found.href))


def _within(at: int, spans: list[tuple[int, int]]) -> bool:
    i = bisect_right(spans, (at, 2**62)) - 1
    return i >= 0 and at < spans[i][1]


def _apart(edits: list[Edit]) -> list[Edit]:
    """Edits in order, without those that begin within another."""
    out: list[Edit] = []
    for edit in sorted(edits):
        if not out or edit.start >= out[-1].end:
            out.append(edit)
    return out


class _Place:
    """Where in the source each character of a block's content stands: its lines without the signs before them."""

    def __init__(self, lines: list[int], places: list[int]) -> None:
        self._lines, self._places = lines, places  # where each line begins, in the content and in the source

    @classmethod
    def of(cls, text: str, content: str, start: int, starts: list[int]) -> _Place | None:
        """None where a line cannot be found as it is, as with tabs that were made spaces."""
        lines, places, at = [], [], 0
        for line in content.split("\n"):
            place = text.find(line, start)
            number = bisect_right(starts, start) - 1
            if place < 0 or (number + 1 < len(starts) and place + len(line) > starts[number + 1]):
                return None
            lines.append(at)
            places.append(place)
            at += len(line) + 1
            start = starts[number + 1] if number + 1 < len(starts) else len(text)
        return cls(lines, places)

    def __getitem__(self, at: int) -> int:
        i = bisect_right(self._lines, at) - 1
        return self._places[i] + at - self._lines[i]
