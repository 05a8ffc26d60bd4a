"""From MathML to TeX: what its author wrote where it is annotated, else a plain reading of its presentation.

Elements are those of MathML 3 (W3C, chapter 3). Symbols stay as they are in Unicode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import unescape
from typing import Any

TEX_ENCODINGS = ("application/x-tex", "application/x-latex", "text/x-tex", "text/x-latex", "tex", "latex", "texshop")
FUNCTIONS = (  # noqa: SIM905 (readable as words)
    "arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln "
    "log max min sec sin sinh sup tan tanh"
).split()
ACCENTS = {"¯": "bar", "‾": "bar", "_": "bar", "→": "vec", "⃗": "vec", "⇀": "vec", "^": "hat", "ˆ": "hat", "̂": "hat"}
ACCENTS |= {"~": "tilde", "˜": "tilde", "∼": "tilde", "˙": "dot", ".": "dot", "¨": "ddot", "⏞": "overbrace"}
LIMITS = frozenset("∑∏∐∫∬∮⋃⋂⋁⋀⨁⨂")
SPACED = frozenset("=<>≤≥≈≠≡≅∼≃∝→⇒⇔←↔↦∈∉⊂⊆⊃⊇+-±∓×÷∪∩∧∨")
PLAIN = str.maketrans({"−": "-", "\u00a0": " ", **dict.fromkeys("\u2061\u2062\u2063\u2064\u200b", None)})
STYLE = re.compile(r"\A\{?\\(?:display|text|script)style\b\s*(.*?)\s*\}?\Z", re.DOTALL)
DELIMITED = re.compile(r"\A(?:\$\$(.+)\$\$|\$([^$]+)\$|\\\((.+)\\\)|\\\[(.+)\\\])\Z", re.DOTALL)


def formula(tex: str, display: bool = False) -> str:
    """TeX between dollars; nothing for nothing."""
    tex = tidy(tex)
    return (f"$${tex}$$" if display else f"${tex}$") if tex else ""


def tidy(tex: str) -> str:
    """TeX without its own delimiters and the style around it, on one line."""
    tex = tex.strip()
    if inside := DELIMITED.match(tex):
        tex = next(part for part in inside.groups() if part is not None)
    tex = tex.strip()
    if (styled := STYLE.match(tex)) and _balanced(styled[1]) and tex.startswith("{") == tex.endswith("}"):
        tex = styled[1]
    return " ".join(tex.split())


def _balanced(tex: str) -> bool:
    depth = 0
    for brace in re.findall(r"\\.|[{}]", tex):
        depth += (brace == "{") - (brace == "}")
        if depth < 0:
            return False
    return depth == 0


def math_to_tex(source: str) -> str:
    """A ``<math>`` element, as written, as TeX between dollars."""
    from lxml import etree

    bare = re.sub(r"(</?)[A-Za-z]\w*:", r"\1", source)  # <mml:math>
    bare = re.sub(r"\s(?:xmlns(?::\w+)?|\w+:\w+)\s*=\s*(?:\"[^\"]*\"|'[^']*')", " ", bare)
    bare = re.sub(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[\da-fA-F]+);)(?:\w+;)?", _entity, bare)
    root = etree.fromstring(bare, etree.XMLParser(recover=True, resolve_entities=False, huge_tree=False))
    return "" if root is None else of_element(root)


def _entity(match: re.Match[str]) -> str:
    return unescape(match[0]).replace("&", "&amp;")


def of_element(math: Any) -> str:
    """A ``<math>`` element of lxml as TeX between dollars."""
    display = math.get("display") == "block" or math.get("mode") == "display"
    for note in math.iter("annotation"):
        if (note.get("encoding") or "").lower() in TEX_ENCODINGS and (note.text or "").strip():
            return formula(note.text, display)
    return formula(math.get("alttext") or _row(math), display)


def _row(node: Any) -> str:
    """What is in an element, read from left to right."""
    out = ""
    for child in node:
        piece = _piece(child)
        if _name(child) == "mo" and piece.strip() in SPACED and out.strip():
            sign = piece.strip()
            piece = sign if out.strip()[-1] in {*SPACED, *"([{,|"} and sign in "+-±" else f" {sign} "
        elif piece[:1].isalpha() and re.search(r"\\[a-z]+\Z", out):
            piece = " " + piece
        out += piece
    return re.sub(r"\s+", " ", f"{(node.text or '').strip()}{out}").strip() if len(node) else _text(node)


def _piece(node: Any) -> str:
    rule = RULES.get(_name(node), _row)
    return rule(node)


def _name(node: Any) -> str:
    return node.tag.rpartition("}")[2].rpartition(":")[2] if isinstance(node.tag, str) else ""


def _text(node: Any) -> str:
    return "".join(node.itertext()).translate(PLAIN).strip()


def _identifier(node: Any) -> str:
    name = _text(node)
    return f"\\{name} " if name in FUNCTIONS else name


def _words(node: Any) -> str:
    text = " ".join("".join(node.itertext()).translate(PLAIN).split(" "))
    return rf"\text{{{text}}}" if re.search(r"[^\W\d_]{2}", text) else text


def _parts(node: Any, n: int) -> list[str]:
    parts = [_piece(child).strip() for child in node if isinstance(child.tag, str)]
    return (parts + [""] * n)[:n]


def _script(sign: str, text: str) -> str:
    if not text:
        return ""
    return f"{sign}{text}" if len(text) == 1 else f"{sign}{{{text}}}"


def _base(text: str) -> str:
    simple = len(text) <= 1 or re.fullmatch(r"\\?\w+|[\d.]+|\(.*\)|\\\w+\{[^{}]*\}", text)
    return text if simple else f"{{{text}}}"


def _scripts(signs: str) -> Callable[[Any], str]:
    def rule(node: Any) -> str:
        base, *scripts = _parts(node, 1 + len(signs))
        return _base(base) + "".join(_script(sign, text) for sign, text in zip(signs, scripts, strict=True))

    return rule


def _fraction(node: Any) -> str:
    return r"\frac{{{}}}{{{}}}".format(*_parts(node, 2))


def _root(node: Any) -> str:
    radicand, degree = _parts(node, 2)
    return rf"\sqrt[{degree}]{{{radicand}}}"


def _stacked(signs: str) -> Callable[[Any], str]:
    """Above and below: limits of sums, accents, or what stands there."""

    def rule(node: Any) -> str:
        base, *others = _parts(node, 1 + len(signs))
        if base in LIMITS or base.startswith("\\") or len(signs) == 2:
            return base + "".join(_script(sign, text) for sign, text in zip(signs, others, strict=True))
        if signs == "^" and others[0] in ACCENTS:
            return rf"\{ACCENTS[others[0]]}{{{base}}}"
        return rf"\{'overset' if signs == '^' else 'underset'}{{{others[0]}}}{{{base}}}"

    return rule


def _fenced(node: Any) -> str:
    parts = [_piece(child).strip() for child in node if isinstance(child.tag, str)]
    separator = (node.get("separators", ",").strip() or " ")[0]
    return f"{node.get('open', '(')}{f'{separator} '.join(parts)}{node.get('close', ')')}"


def _table(node: Any) -> str:
    rows = [
        [_piece(cell).strip() for cell in row if isinstance(cell.tag, str)]
        for row in node
        if _name(row) in ("mtr", "mlabeledtr")
    ]
    if len(rows) == 1 and len(rows[0]) == 1:
        return rows[0][0]
    return rf"\begin{{matrix}} {_lines(rows)} \end{{matrix}}"


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return r" \\ ".join(" & ".join(row) for row in rows)


def _scripts_around(node: Any) -> str:
    """Scripts behind a base and, after ``<mprescripts/>``, in front of it, each time a lower and an upper one."""
    base, *rest = (child for child in node if isinstance(child.tag, str))
    sides: list[list[str]] = [[]]
    for child in rest:
        if _name(child) == "mprescripts":
            sides.append([])
        else:
            sides[-1].append(_piece(child).strip())
    behind, before = ("".join(_script("_^"[i % 2], text) for i, text in enumerate(side)) for side in (*sides, [])[:2])
    return ("{}" + before if before else "") + _base(_piece(base).strip()) + behind


def _space(node: Any) -> str:
    return r" \\ " if node.get("linebreak") == "newline" else " "


RULES: dict[str, Callable[[Any], str]] = {
    "mi": _identifier,
    "mn": _text,
    "mo": _text,
    "ms": _text,
    "mtext": _words,
    "mspace": _space,
    "mfrac": _fraction,
    "msqrt": lambda node: rf"\sqrt{{{_row(node)}}}",
    "mroot": _root,
    "msup": _scripts("^"),
    "msub": _scripts("_"),
    "msubsup": _scripts("_^"),
    "mover": _stacked("^"),
    "munder": _stacked("_"),
    "munderover": _stacked("_^"),
    "mmultiscripts": _scripts_around,
    "mfenced": _fenced,
    "mtable": _table,
    "semantics": lambda node: _piece(node[0]) if len(node) else "",
    "maction": lambda node: _piece(node[0]) if len(node) else "",
    **dict.fromkeys(("annotation", "annotation-xml", "mphantom", "none", "mprescripts", ""), lambda _: ""),
}
