"""MathML to TeX: annotations, and presentation without any."""

from __future__ import annotations

import pytest

from phi3kit.corpus.mathml import math_to_tex


@pytest.mark.parametrize(
    ("inside", "tex"),
    [
        ("<mfrac><mn>1</mn><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow></mfrac>", r"\frac{1}{a + b}"),
        ("<msqrt><mi>x</mi><mo>−</mo><mn>1</mn></msqrt>", r"\sqrt{x - 1}"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt[3]{x}"),
        ("<msup><mn>10</mn><mrow><mo>−</mo><mn>6</mn></mrow></msup>", "10^{-6}"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "x_i^2"),
        ("<msup><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></msup>", "{a + b}^2"),
        ("<mi>sin</mi><mo>&#x2061;</mo><mi>x</mi><mo>=</mo><mo>-</mo><mn>1</mn>", r"\sin x = -1"),
        (
            "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><mi>i</mi>",
            "∑_{i = 1}^ni",
        ),
        ("<mover><mi>v</mi><mo>→</mo></mover>", r"\vec{v}"),
        ("<mfenced><mi>a</mi><mi>b</mi></mfenced>", "(a, b)"),
        ("<mtext>if odd</mtext>", r"\text{if odd}"),
        (
            "<mtable><mtr><mtd>a</mtd><mtd>b</mtd></mtr><mtr><mtd>c</mtd><mtd>d</mtd></mtr></mtable>",
            r"\begin{matrix} a & b \\ c & d \end{matrix}",
        ),
        ("<mmultiscripts><mi>C</mi><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts>", "{}_6^{14}C"),
        ("<mi>&alpha;</mi><mo>&lt;</mo><mi>b</mi>", "α < b"),
        (
            "<semantics><mi/><annotation encoding='application/x-tex'>{\\displaystyle x^{2}}</annotation></semantics>",
            "x^{2}",
        ),
        ("<semantics><mi>x</mi><annotation encoding='StarMath 5.0'>size 12{x}</annotation></semantics>", "x"),
        ("", ""),
    ],
)
def test_mathml_becomes_tex(inside: str, tex: str) -> None:
    wanted = f"${tex}$" if tex else ""
    assert math_to_tex(f"<math>{inside}</math>") == wanted
    assert math_to_tex(f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">{inside}</math>') == (
        f"${wanted}$" if tex else ""
    )


def test_other_ways_to_write_it() -> None:
    assert math_to_tex('<math alttext="\\frac{a}{b}"><mi>x</mi></math>') == r"$\frac{a}{b}$"
    assert math_to_tex('<mml:math xmlns:mml="http://x"><mml:mi>x</mml:mi></mml:math>') == "$x$"
    assert math_to_tex("<math><mi>x<mo>+</math>") == "$x+$"  # as good as it can be read
