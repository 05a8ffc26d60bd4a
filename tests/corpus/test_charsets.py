"""Charsets of pages: who declares them, who wins, and what is guessed."""

from __future__ import annotations

import gzip

import pytest

from phi3kit.corpus import HTML, FastHTML
from phi3kit.corpus.charsets import charset_in, codec_of, decoded
from phi3kit.families import Extractor

AROUND = "The lamp on the harbour wall turns twice a minute, and ships count the turns; so they know where. " * 3
LINES = {
    "iso-8859-1": "The café costs £5 a night – or “six”.",
    "windows-1252": "Größe: 5 µm, 20 °C.",
    "iso-8859-2": "Zażółć gęślą jaźń.",
    "windows-1251": "Маяк и порт.",
    "shift_jis": "灯台と港のカタカナ①。",
    "euc-kr": "등대와 항구 똠",
    "gb2312": "灯塔和港口囍。",
    "big5": "燈塔和港口。",
}
PYTHONS = {
    "iso-8859-1": "cp1252",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
}


def page(charset: str, head: str = "") -> bytes:
    text = f"<p>{AROUND}</p><p>{LINES[charset]}</p><p>{AROUND}</p>"
    source = f"<html><head>{head}<title>t</title></head><body><article><h1>Head</h1>{text}</article></body></html>"
    return source.encode(PYTHONS.get(charset, charset))


@pytest.mark.parametrize("extractor", [HTML(), FastHTML()], ids=["HTML", "FastHTML"])
@pytest.mark.parametrize("charset", LINES)
def test_pages_are_decoded_as_declared(extractor: Extractor, charset: str) -> None:
    kind = f"text/html; charset={charset}"
    heads = [
        f'<meta charset="{charset}">',
        f"<META content='{kind}' http-equiv=Content-Type />",
        f"<!-- {'x' * 2000} --><meta charset={charset}>",
    ]
    for head in heads:
        assert LINES[charset] in extractor.extract(page(charset, head), "x")
    assert LINES[charset] in extractor.extract_as(page(charset), "x", charset)
    assert LINES[charset] in extractor.extract_as(page(charset, '<meta charset="utf-8">'), "x", charset)


def no_guess(_: bytes) -> list[str]:
    return []


def test_who_wins() -> None:
    text = "é <meta charset=iso-8859-2>"
    assert decoded(b"\xef\xbb\xbf" + text.encode(), "iso-8859-1", no_guess) == text
    assert decoded("é".encode("utf-16"), "", no_guess) == "é"
    assert decoded(b"\xe9<meta charset=iso-8859-2>", "windows-1251", no_guess)[0] == "й"
    assert decoded(b"\xe9<meta charset=windows-1251>", "", no_guess)[0] == "й"
    assert decoded(b"\xe9<meta charset=windows-1251>", "no such charset", no_guess)[0] == "й"
    assert (
        decoded(
            b"\xe9<!-- <meta charset=utf-8> --><meta name=a content='charset=utf-8'><meta charset=cp1251>", "", no_guess
        )[0]
        == "й"
    )
    assert decoded(b'<?xml version="1.0" encoding="windows-1251"?>\xe9', "", no_guess)[-1] == "й"
    assert decoded("é<meta charset=utf-16>".encode(), "", no_guess)[0] == "é"  # it could not have been read
    assert decoded(b"caf\xe9 <meta charset=utf-8>", "", lambda _: ["windows-1252"]).startswith("café")  # is not true
    assert decoded(b"\x81\x93a\x94 <meta charset=latin1>", "", no_guess)[1:4] == "“a”"
    assert decoded("é".encode(), "", lambda _: ["windows-1251"]) == "é"
    assert decoded(b"\xe9", "", lambda _: ["windows-1251"]) == "й"


def test_labels() -> None:
    wanted = {
        "ISO-8859-1": "cp1252",
        "x-sjis": "cp932",
        "ks_c_5601-1987": "cp949",
        "gb2312": "gb18030",
        "UTF8": "utf-8",
    }
    assert {label: codec_of(label) for label in wanted} == wanted
    assert codec_of("lamp") is codec_of("") is None
    assert [charset_in(kind) for kind in ('text/html; Charset="x-sjis"', "text/html;charset=a;b", "text/html")] == [
        "x-sjis",
        "a",
        "",
    ]


@pytest.mark.parametrize("extractor", [HTML(), FastHTML()], ids=["HTML", "FastHTML"])
def test_what_is_not_declared_is_guessed(extractor: Extractor) -> None:
    for charset, text in (
        ("cp949", "등대는 항구의 벽에 있고, 배들은 회전을 센다."),
        ("cp1251", "Маяк на стене гавани вращается."),
        ("utf-8", "Größe"),
    ):
        source = f"<html><head><title>t</title></head><body><article>{f'<p>{text * 9}</p>' * 4}</article></body></html>"
        assert text in extractor.extract(source.encode(charset), "x")
        assert text in extractor.extract(gzip.compress(source.encode(charset)), "x")


def test_an_extractor_that_knows_no_charsets_is_asked_as_before() -> None:
    class Old(Extractor):
        def extract(self, content: bytes, name: str) -> str:
            return content.decode("latin-1")

    assert Old().extract_as(b"\xe9", "x", "windows-1251") == "é"
