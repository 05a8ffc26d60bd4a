"""Markdown: what goes, what stays as written, and formulas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phi3kit.corpus import Markdown


def extract(text: str) -> str:
    return Markdown().extract(text.encode(), "x.md").strip("\n")


@pytest.mark.parametrize(
    "text",
    [
        "Let $a<b$ and $c>d$. Then $a+d<b+c$.",
        "If x<y and y>z, then stop; a<!b>c; a<b and c>d, std::vector<i> v, Map<String, List<Integer>> x.",
        "1. Build:\n\n   ```cpp\n   #include <vector>\n   std::vector<int> v;\n   ```",
        "    #include <vector>\n\n\n\n    [a](http://b.c) <b>x</b>",
        "~~~cpp\n#include <vector>\n\n\n\n[a](http://b.c)\n~~~",
        "> ```cpp\n> vector<int> v;\n> ```",
        "- a `<b>x</b>` [`x`]: y",
        "See <https://example.org/a> and <ada@uni-x.org>.",
        "\\<T\\> is a type, <T> another; a <your-name>, an <email>.",
        "Then a[i](j) is called, f[0](1.5), and m[i][j].",
        "auto f = [](int x) { return x; }; auto g = [&](T) {};",
        "$$\na_1 <b>\n\n> c [x](http://y.z)\n- d\n$$",
        "\\(a_i <b>c</b> [x](y.z)\\) and \\[b_i <i>c</i>\\]",
        "\\begin{align}\na &<b \\\\\n- c &<i>d</i>\n\\end{align}",
        "It costs $5 and <b and $6.",
        "[Alice]: hello there",
        "A note[^1].\n\n[^1]: With text.",
        "| a | b |\n|---|---|\n| `x<y>` | 2 |",
        "{:.2f} and {:d} and {:>10} and {'a': 1}",
        "---\n\nThe first part.\n\n---\n\nThe second part.",
        "---\nNot keys, but a text.\n---\n\nMore.",
        "Title\n===\n\n*a* **b** _c_ ~~d~~ \\*e\\*\n\n* x\n+ y",
        "x <!-- is never closed",
    ],
)
def test_what_is_no_markup_stays_as_written(text: str) -> None:
    assert extract(text) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[a](http://x.y) ![b _c_](p.png 'T'){: #id .k} [d](#x) [e](Page-Name) [f](<g h>)", "a b _c_ d e f"),
        ("[a][1], [1], [b][]\n\n[1]: http://x.y 'T'\n[b]: /u", "a, [1], b"),
        ("[![Build](https://b.svg)](https://ci)", "Build"),
        ("> [a\n> b](http://x.y) <i>c</i>", "> a\n> b c"),
        ("| [a](u.html) | <b>x</b> |\n|--|--|\n| [c](d.html) | <i>y</i> |", "| a | x |\n|--|--|\n| c | y |"),
        (
            "a <img src='p.png' alt='A lamp'> b <img src=p alt=lamp> c <img data-alt='x' src='p.png'>",
            "a A lamp b lamp c",
        ),
        ('a<br>b <b>c</b> <span class="x">d</span> <img src="p.png" alt="A lamp">', "a\nb c d A lamp"),
        ("AT&amp;T, 1 &lt; 2, `&lt;`", "AT&T, 1 < 2, `&lt;`"),
        ("<!-- one\n\ntwo -->a<script>b <i></script>", "a"),
        ("<details>\n<summary>Sum</summary>\n\n**x** [y](z.md)\n\n</details>", "Sum\n\n**x** y"),
        ("<pre><code>a &lt;b&gt;\n\n\n c</code></pre>", "```\na <b>\n\n\n c\n```"),
        (
            "<table><caption>C</caption><tr><th>a</th>\n\n  <th>b</tr><tr><td><div>1</div></td><td>x</td></table>",
            "C\n| a | b |\n| 1 | x |",
        ),
        ("As shown (see [\\[link\\]](#a)).", "As shown."),
        ("# Head {#id .k}\n\n{: .x}\nText", "# Head\n\nText"),
        (
            "10<sup>-6</sup> H<sub>2</sub>O C<sub>12</sub>H 1<sup>st</sup> x<sup>n+1</sup>",
            "10^-6 H_2O C_{12}H 1st x^{n+1}",
        ),
        ("---\ntitle: x\ntags: [a]\n---\nText", "Text"),
        ("---\ntitle: {{ x }}\n---\nText", "Text"),
        ('+++\ntitle = "x"\n+++\nText', "Text"),
    ],
)
def test_what_only_a_renderer_needs_goes(text: str, wanted: str) -> None:
    assert extract(text) == wanted


def test_a_paragraph_goes_on_behind_a_formula() -> None:
    math = "<math><msub><mi>t</mi><mn>0</mn></msub></math>"
    assert extract(f"Since {math}\n\n, taking {math}\n\n means more.\n\n{math}\n\nNext.") == (
        "Since $t_0$, taking $t_0$ means more.\n\n$t_0$\n\nNext."
    )


def test_a_textbook_keeps_its_formulas_and_loses_its_markup(shared_data: Path) -> None:
    sections = [path.read_text() for path in (shared_data / "edu/openstax_college_physics").glob("*.md")]
    texts = [extract(section) for section in sections]
    formulas = sum(len(re.findall(r"\$\$[^$]+\$\$|\$[^$]+\$", text)) for text in texts)
    assert formulas >= 0.999 * sum(section.count("<math") for section in sections) > 2600
    assert not re.search(r"\{: |<m\w+|<td|\[link|&lt;", "".join(texts))
