"""Which charset the bytes of a web page are in, in the order of the HTML standard (section 13.2.3.2).

A byte order mark, what the server said, what the page says of itself, and only then a guess. Labels mean what the
WHATWG's Encoding standard says, so ISO-8859-1 is windows-1252.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))
HEAD, FAR = 1024, 16384  # bytes that a charset must be declared in, and in which browsers find it all the same
COMMENT = re.compile(rb"<!--.*?-->|<script\b.*?</script\s*>|<style\b.*?</style\s*>", re.DOTALL | re.IGNORECASE)
META = re.compile(rb"<meta[\s/]((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", re.IGNORECASE)
CHARSET = re.compile(rb"(?:^|[\s\"'/])charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)", re.IGNORECASE)
IN_CONTENT = re.compile(rb"charset\s*=\s*[\"']?\s*([^\s\"';>]+)", re.IGNORECASE)
CONTENT = re.compile(rb"(?:^|[\s\"'/])content\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|(\S+))", re.IGNORECASE)
KIND = re.compile(rb"http-equiv\s*=\s*[\"']?content-type", re.IGNORECASE)
XML = re.compile(rb"\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([\w.:-]+)[\"']")
# Python's codecs that decode what the standard's of that name do, which are larger than their names say.
LARGER = {
    "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "big5hkscs", "iso8859-11": "cp874",
    "iso8859-9": "cp1254", "ascii": "cp1252",
}  # fmt: skip
MOST_WRONG = 0.1  # of the characters beyond ASCII that may be no characters in the charset that is declared


def decoded(content: bytes, charset: str, guess: Callable[[bytes], Iterable[str]]) -> str:
    """A page's text.

    Args:
        content: the page.
        charset: as its server declared; may be empty or unknown.
        guess: charsets it may be in, the likeliest first, where nothing declares it.
    """
    for mark, codec in MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(codec, "replace")
    for label in (charset, *_declared(content)):
        if (known := codec_of(label)) and (text := _with_few_errors(content, known)) is not None:
            return text
    for label in ("utf-8", *guess(content)):
        try:
            if known := codec_of(label):
                return content.decode(known)
        except UnicodeDecodeError:
            pass
    return content.decode("cp1252" if b"\x00" not in content else "utf-8", "replace")


def codec_of(label: str) -> str | None:
    """Python's codec for a label; None for one that no browser knows."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    label = {"uhc": "euc-kr", "cp949": "euc-kr", "x-user-defined": "windows-1252"}.get(label.lower(), label)
    name = map_encoding_to_html5(label.strip(), fallback_utf8=False) if label.strip() else None
    return LARGER.get(name, name) if name else None


def charset_in(content_type: str) -> str:
    """The charset that an HTTP header's type names; empty where none."""
    found = IN_CONTENT.search(content_type.encode("latin-1", "replace"))
    return found[1].decode("latin-1") if found else ""


def _declared(content: bytes) -> Iterable[str]:
    """What a page says of itself: in its beginning, in its XML declaration, or late in its head."""
    early = content[:HEAD]
    labels = [*_in_meta(early), *(found[1].decode() for found in [XML.match(early)] if found)]
    if not labels:
        labels = [*_in_meta(content[:FAR].partition(b"<body")[0])]
    for label in labels:  # a page in UTF-16 could not be read as far as here
        yield "utf-8" if (codec_of(label) or "").startswith("utf-16") else label


def _in_meta(head: bytes) -> Iterable[str]:
    for meta in META.finditer(COMMENT.sub(b" ", head)):
        found = CHARSET.search(CONTENT.sub(b" ", meta[1]))
        if not found and KIND.search(meta[1]) and (said := CONTENT.search(meta[1])):
            found = IN_CONTENT.search(next(part for part in said.groups() if part is not None))
        if found:
            yield found[1].decode("latin-1")


def _with_few_errors(content: bytes, codec: str) -> str | None:
    """Decoded as declared; None where so much is wrong that the declaration is."""
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        if (
            codec == "cp1252"
        ):  # has five bytes less than the standard's windows-1252, which are control characters there
            return content.decode(codec, "replace")
        text = content.decode(codec, "replace")
        beyond = len(text) - len(text.encode("ascii", "ignore"))
        return text if text.count("\ufffd") <= MOST_WRONG * beyond else None
