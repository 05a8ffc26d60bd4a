"""What web pages say by markup that extractors do not read: formulas, captions, blocks in cells, lists of the text.

It is done on the source, before any extractor: a page without such markup costs a look for a few words.
"""

from __future__ import annotations

import re
from html import escape, unescape

from phi3kit.corpus.markup import scripts_to_text
from phi3kit.corpus.mathml import formula, math_to_tex

TAGS = re.compile(r"<((?i:math|\w+:math|mjx-container|su[pb]|fig(?:ure|caption)|t[dh]|img))\b")
# What formulas are drawn in: KaTeX, MathJax 2 to 4, MediaWiki.
DRAWN = re.compile(
    r"<(?P<tag>mjx-container)\b[^>]*>"
    r"|<(?P<tag2>span|div|p)\b[^>]*\bclass\s*=\s*[\"']?[^\"'>]*?"
    r"\b(?:katex(?:-display)?|mwe-math-element|MathJax(?:_Display|_Preview|_SVG(?:_Display)?|_CHTML)?|mjx-chtml|mjx-full-width"
    r"|MJXc-display)(?=[\s\"'>])[^>]*>",
    re.IGNORECASE,
)
SCRIPTED = re.compile(r"<script\b([^>]*\bmath/(tex|mml|asciimath)[^>]*)>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
MATH = re.compile(
    r"(?P<math><(?P<name>(?:\w+:)?math)\b(?=[\s>])(?:(?!<(?:(?P=name)|script)\b).)*?</(?P=name)\s*>)"
    r"(?:\s*(?:</span\s*>)?\s*<img\b[^>]*\bmwe-math-fallback[^>]*>)?",  # the same, drawn
    re.DOTALL | re.IGNORECASE,
)
DISPLAY = re.compile(r"display\s*=\s*[\"']?(?:true|block)|katex-display|MathJax_Display|MJXc-display", re.IGNORECASE)
HELD = re.compile(r"\bdata-mathml\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
FOREIGN = re.compile(r"<script\b(?![^>]*\bmath/)", re.IGNORECASE)
IMAGE = re.compile(r"<(?i:img)\b([^>\"']*(?:\"[^\"]*\"[^>\"']*|'[^']*'[^>\"']*)*)>")
OF_FORMULAS = ("math", "latex", "equation", "formula", "codecogs", "mimetex", "texify", "tex.", 'class="tex', "cht=tx")
ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
OF_FORMULA = re.compile(
    r"\bclass\s*=\s*[\"']?[^\"'>]*\b(?:(?:mwe-)?math\w*|tex|latex\w*|equation|formula|ltx_\w*math\w*|inline-formula)\b"
    r"|\bsrc\s*=\s*[\"']?[^\"'>]*(?:latex|/math/|mathtex|mimetex|codecogs|texify|cht=tx|/tex\.|imgmath)",
    re.IGNORECASE,
)
TEX = re.compile(r"\\[A-Za-z]+|[A-Za-z0-9)}]\^[A-Za-z0-9({-]|[_^]\{|\$.+\$")
TEX_OR_SIGNS = re.compile(r"\\|[_^=+<>(){}|]|\A\S{1,6}\Z")
NAMELESS = re.compile(
    r"(?:math|formula|equation|tex|latex|image|img|inline formula|display formula)?\d*\Z", re.IGNORECASE
)
# Formulas that stand alone go on in the paragraph before them: alone, they are too little text for extractors.
ALONE = re.compile(
    r"<(?i:div)\b[^>]*\b(?i:class)\s*=\s*[\"']?[^\"'>]*\bmath\b[^>]*>((?:(?!<(?i:div|script)\b).)*?)</(?i:div)\s*>",
    re.DOTALL,
)
DISPLAYED = re.compile(
    r"</p\s*>\s*((?:<(?:div|span|center)\b[^>]*>\s*){0,3})(\$\$[^$<]+\$\$)\s*((?:</(?:div|span|center)\s*>\s*){0,3})",
    re.IGNORECASE,
)
NUMBER = re.compile(r"<span\b[^>]*\beqno\b[^>]*>\s*(\(.*?\)).*?</span\s*>", re.DOTALL | re.IGNORECASE)
FIGURE = re.compile(r"<(/?)((?i:figure|figcaption))\b[^>]*>")
CELL = re.compile(r"(<[tT][dDhH]\b[^>]*>)")
CELL_END = re.compile(r"</t[dh]\s*>|</?t(?:r|able|body|head|foot)\b", re.IGNORECASE)
BLOCK = re.compile(r"<(/?)(?:div|p|pre|ul|ol|li|dl|dt|dd|br|blockquote|h[1-6])\b[^>]*>", re.IGNORECASE)
TAG = re.compile(r"<[^>]*>")
LINK = re.compile(r"<a\b[^>]*>(.*?)</a\s*>", re.DOTALL | re.IGNORECASE)
LONGEST_CELL = 40  # words of a cell that is one, and not a column of a page


def with_text(source: str) -> str:
    """A page's source with what its markup says as text."""
    tags = {tag.lower() for tag in TAGS.findall(source)}
    if "mjx-container" in tags or any(name in source for name in ("katex", "MathJax", "mwe-math", "mjx-chtml")):
        source = _drawn(source)
    if "math/" in source:
        source = SCRIPTED.sub(_scripted, source)
    if any(tag.endswith("math") for tag in tags):
        source = MATH.sub(lambda match: _text(math_to_tex(match["math"])), source)
    if "img" in tags and ("\\" in source or "^" in source or any(sign in source for sign in OF_FORMULAS)):
        source = IMAGE.sub(_image, source)
    if "math" in source:
        source = _with_joined(source)
    if "$$" in source:
        source = DISPLAYED.sub(_displayed, source)
    if not tags.isdisjoint(("sup", "sub")):
        source = scripts_to_text(source)
    if not tags.isdisjoint(("figure", "figcaption")):
        source = FIGURE.sub(lambda match: f"<{match[1]}{'div' if match[2].lower() == 'figure' else 'p'}>", source)
    return source if tags.isdisjoint(("td", "th")) else _with_flat_cells(source)


def _text(formula: str) -> str:
    return escape(formula, quote=False)


def _drawn(source: str) -> str:
    """Formulas that are drawn, by what they hold for readers that cannot see."""
    out, at = [], 0
    while found := DRAWN.search(source, at):
        end = closing(source, found.start(), found["tag"] or found["tag2"])
        drawn = source[found.start() : end]
        held = "" if FOREIGN.search(drawn) else _held(drawn, found[0])
        if held or SCRIPTED.match(source, _past_drawn(source, end)):
            out += [source[at : found.start()], held]
            at = end
        else:
            out.append(source[at : found.end()])
            at = found.end()
    return "".join([*out, source[at:]])


def _held(source: str, opening: str) -> str:
    display = bool(
        re.search(r"display\s*=\s*[\"']?(?:true|block)|katex-display|MathJax_Display|MJXc-display", opening, re.I)
    )
    math = MATH.search(source)
    if not math and (held := HELD.search(source)):
        math = MATH.search(unescape(held[1] or held[2]))
    if not math:
        return ""
    tex = math_to_tex(math["math"])
    return _text(formula(tex, True) if display and not tex.startswith("$$") else tex)


def _past_drawn(source: str, at: int) -> int:
    """Past white space and other drawings of the same formula, which stand before its source."""
    while (found := re.compile(r"\s*(?=<)").match(source, at)) and (drawn := DRAWN.match(source, found.end())):
        at = closing(source, drawn.start(), drawn["tag"] or drawn["tag2"])
    space = re.compile(r"\s*").match(source, at)
    return space.end() if space else at


def closing(source: str, start: int, tag: str) -> int:
    """Where the element that begins at `start` ends; one that is never closed, behind its opening."""
    depth = opened = 0
    for found in re.compile(rf"<(/?){re.escape(tag)}\b[^>]*>", re.IGNORECASE).finditer(source, start):
        opened = opened or found.end()
        depth += -1 if found[1] else 0 if found[0].endswith("/>") else 1
        if depth <= 0:
            return found.end()
    return opened


def _scripted(match: re.Match[str]) -> str:
    display, kind = "mode=display" in match[1].replace(" ", "").lower(), match[2].lower()
    if kind == "mml":
        return _text(math_to_tex(match[3]))
    tex = re.sub(r"\A\s*(?://\s*)?<!\[CDATA\[|(?:%\s*)?\]\]>\s*\Z", "", match[3])
    return _text(formula(tex, display))


def _image(match: re.Match[str]) -> str:
    alt = ALT.search(match[1])
    words = unescape(next((part for part in alt.groups() if part is not None), "")).strip() if alt else ""
    is_formula = bool(OF_FORMULA.search(match[1]))
    if NAMELESS.match(words) or not (is_formula or TEX.search(words)):
        return match[0]
    display = "display" in match[1] or words.startswith(("$$", "\\[", "\\begin"))
    return _text(formula(words, display) if TEX_OR_SIGNS.search(words) else words)


def _with_joined(source: str) -> str:
    """Formulas in blocks of their own, at the end of the paragraph before them."""
    out, at = [""], 0
    for found in ALONE.finditer(source):
        if not re.search(r"[\\$]", found[1]):
            continue
        text = NUMBER.sub("", found[1]).strip() + "".join(f" {number}" for number in NUMBER.findall(found[1]))
        before = out.pop() + source[at : found.start()]
        joins = before.rstrip().endswith("</p>")
        out += [before.rstrip()[:-4], f"<br>{text}</p>"] if joins else [before, f"<p>{text}</p>"]
        at = found.end()
    return "".join([*out, source[at:]])


def _displayed(match: re.Match[str]) -> str:
    return f"<br>{match[2]}</p>" if match[1].count("<") == match[3].count("<") else match[0]


def _with_flat_cells(source: str) -> str:
    """Cells of tables without blocks, which extractors lose; cells that hold a page's columns stay."""
    pieces = CELL.split(source)
    for i in range(2, len(pieces), 2):
        end = CELL_END.search(pieces[i])
        inside = pieces[i][: end.start()] if end else ""
        if "<" in inside and BLOCK.search(inside) and _is_cell(inside):
            pieces[i] = BLOCK.sub(" ", inside) + pieces[i][len(inside) :]
    return "".join(pieces)


def _is_cell(source: str) -> bool:
    """Whether a cell is short, and no list of links."""
    words = len(TAG.sub(" ", source).split())
    linked = sum(len(TAG.sub(" ", text).split()) for text in LINK.findall(source))
    return words <= LONGEST_CELL and linked <= words / 2
