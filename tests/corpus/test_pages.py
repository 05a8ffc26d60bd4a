"""Web pages arrive whole: formulas, raised signs, captions, cells and lists, by both extractors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phi3kit.corpus import HTML, FastHTML
from phi3kit.families import Extractor

AROUND = "The lamp on the harbour wall turns twice a minute, and ships count the turns; so they know where they are. "
MENU = "<ul><li><a href='/'>Home</a></li><li><a href='/x'>Products</a></li></ul>"
KATEX = (
    "<span class='katex'><span class='katex-mathml'><math><semantics><mi>x</mi>"
    "<annotation encoding='application/x-tex'>x^2</annotation></semantics></math></span>"
    "<span class='katex-html'><span>x<span>2</span></span></span></span>"
)
WIKIPEDIA = (
    "<span class='mwe-math-element'><span style='display: none;'>"
    "<math alttext='{\\displaystyle E=mc^{2}}'><mi>E</mi></math></span>"
    "<img src='u' class='mwe-math-fallback-image-inline' alt='{\\displaystyle E=mc^{2}}'></span>"
)
MATHJAX_2 = (
    "<span class='MathJax_Preview'>q</span><span class='MathJax' id='m'><span>q<span>2</span></span></span>"
    "<script type='math/tex' id='s'>q^2</script>"
)
MATHJAX_3 = (
    "<mjx-container class='MathJax' display='true'><mjx-math><mjx-mi>.</mjx-mi></mjx-math><mjx-assistive-mml>"
    "<math><mfrac><mn>1</mn><mn>2</mn></mfrac></math></mjx-assistive-mml></mjx-container>"
)


def extract(extractor: Extractor, body: str) -> str:
    """What comes of a body between two paragraphs, in one line."""
    page = f"<html><head><title>t</title></head><body><nav>{MENU}</nav><main><article><h1>Head</h1>"
    page += f"<p>{AROUND * 2}</p>{body}<p>{AROUND * 2}</p></article></main><footer>{MENU}</footer></body></html>"
    text = extractor.extract(page.encode(), "x").replace((AROUND * 2).strip(), "¦")
    assert "Products" not in text
    return " ".join(text.split("¦")[1].split())


both = pytest.mark.parametrize("extractor", [HTML(), FastHTML()], ids=["HTML", "FastHTML"])


@both
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (f"<p>so {KATEX} and</p>", "so $x^2$ and"),
        (f"<p>so {WIKIPEDIA} and</p>", "so $E=mc^{2}$ and"),
        (f"<p>so {MATHJAX_2} and</p>", "so $q^2$ and"),
        (f"<p>so {MATHJAX_3} and</p>", r"so $$\frac{1}{2}$$ and"),
        ("<p>so <script type='math/tex'>x<y</script> and</p>", "so $x<y$ and"),
        ("<p>so</p><script type='math/tex; mode=display'>z=1</script><p>and</p>", "so $$z=1$$ and"),
        ("<p>so <math><msup><mi>x</mi><mn>2</mn></msup></math> and</p>", "so $x^2$ and"),
        ("<p>the <img class='math' src='math/a.png' alt='P(H|e)'/>, that</p>", "the $P(H|e)$, that"),
        ("<p>a <img src='a.png' alt='\\frac{a}{b} > 1'> <img src='b.png' alt='A lamp'></p>", r"a $\frac{a}{b} > 1$"),
        (
            "<p>so</p><div class='math'>\n<span class='eqno'>(1)<a href='#e'>#</a></span>\\[a &lt; b\\]</div>",
            r"so \[a < b\] (1)",
        ),
        ("<p>so \\(a &lt; b\\) and $$c^2$$</p>", r"so \(a < b\) and $$c^2$$"),
        ("<p>10<sup>-6</sup> m<SUP>2</SUP> H<sub>2</sub>O x<sup>n+1</sup></p>", "10^-6 m^2 H_2O x^{n+1}"),
        ("<p>1<sup>st</sup> lamp<sup>&reg;</sup> e<sup>x<sub>i</sub></sup></p>", "1st lamp® e^{x_i}"),
        ("<p>note<sup><a href='#f'>3</a></sup> note<a href='#g'><sup>4</sup></a></p>", "note[3] note[4]"),
        ("<p>as <img alt='x^2 + y^2' src='eq1.gif'> is</p>", "as $x^2 + y^2$ is"),
        ("<figure><img src=x><figcaption>A lamp on its wall</figcaption></figure>", "A lamp on its wall"),
    ],
)
def test_formulas_and_raised_signs(extractor: Extractor, body: str, text: str) -> None:
    assert extract(extractor, body) == text


@both
def test_cells_are_kept_with_what_is_in_them(extractor: Extractor) -> None:
    cells = [
        "<div>one</div>",
        "<pre>two\n three</pre>",
        "<ul><li>four</li><li>five</li></ul>",
        "<p>six</p>",
        f"<div>{KATEX}</div>",
    ]
    rows = "".join(f"<tr><td>k{i}</td><td>{cell}</td></tr>" for i, cell in enumerate(cells))
    table = f"<table><caption>Its caption</caption><tr><th>a</th><th>b</th></tr>{rows}</table>"
    got = re.sub(r"[|-]+", " ", extract(extractor, table)).split()
    assert got == [
        "Its",
        "caption",
        "a",
        "b",
        "k0",
        "one",
        "k1",
        "two",
        "three",
        "k2",
        "four",
        "five",
        "k3",
        "six",
        "k4",
        "$x^2$",
    ]


@both
def test_lists_of_prose_are_kept_and_menus_are_not(extractor: Extractor) -> None:
    third = "<p><b>three</b> and <a href=x>link</a></p>"
    prose = f"<ul><li>one item</li><li>two<ul><li>inner</li></ul></li><li>{third}</li></ul>"
    got = extract(extractor, f"{prose}<dl><dt>Term</dt><dd>What it is</dd></dl>")
    assert re.sub("[•-]", "", got).split() == [
        "one",
        "item",
        "two",
        "inner",
        "three",
        "and",
        "link",
        "Term",
        "What",
        "it",
        "is",
    ]
    assert not re.search(r"\d\.", got)
    assert extract(extractor, f"<p>so</p>{MENU}<p>and</p>") == "so and"
    assert "Home" not in extract(extractor, MENU.replace("<ul", "<ul class='main-menu'"))


def test_bullets_are_bullets_in_a_hurry() -> None:
    got = extract(
        FastHTML(), "<ol><li>first</li></ol><ul><li>a lamp</li><li><span>a wall</span><ol><li>inner</li></ol></li></ul>"
    )
    assert got == "1. first • a lamp • a wall 1. inner"
    assert extract(FastHTML(), "<p>so</p><ul><li>a lamp</li><li><pre>code</pre></li></ul>") == "so • a lamp • code"


@both
def test_a_real_page_keeps_its_formulas(extractor: Extractor, shared_data: Path) -> None:
    """Wikipedia's on t-SNE, of which some formulas stand in its first sentences."""
    source = (shared_data / "web/html/en.wikipedia.org.tsne.html").read_bytes()
    wanted = source.count(b"<math")
    text = extractor.extract(source, "x")
    assert wanted > 30
    assert len(re.findall(r"\$[^$]+\$", text)) >= 0.95 * wanted
    assert "Given a set of $N$ high-dimensional objects $\\mathbf {x} _{1},\\dots ,\\mathbf {x} _{N}$, t-SNE" in text


@both
def test_scripts_and_comments_are_no_text(extractor: Extractor) -> None:
    noise = (
        "<script>var a = '<sup>'; var b = '<math><span class=\"MathJax\">';</script><!-- <math><mi>no</mi></math> -->"
    )
    assert extract(extractor, f"{noise}<p>so x<sup>2</sup> <math><mi>y</mi></math></p>{noise}") == "so x^2 $y$"


@both
def test_an_entity_that_is_written_about_stays_one(extractor: Extractor) -> None:
    body = "<p>write &amp;lt; for &lt;, <code>&#38;nbsp;</code> and ?a=1&amp;copy=2 at AT&amp;T &amp; Co</p>"
    assert extract(extractor, body) == "write &lt; for <, &nbsp; and ?a=1&copy=2 at AT&T & Co"
    assert extract(extractor, "<pre>a &amp;amp; b</pre><table><tr><td>1 &amp;lt; 2</td></tr></table>").replace(
        "|", ""
    ).split() == ["a", "&amp;", "b", "1", "&lt;", "2"]
