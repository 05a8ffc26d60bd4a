"""From the bytes of a file to its text."""

from __future__ import annotations

import re
from typing import final

from phi3kit.errors import UserError
from phi3kit.families import Extractor


@final
class PlainText(Extractor):
    """UTF-8 text as it is, with newlines made ``\\n``."""

    def extract(self, content: bytes, name: str) -> str:
        """The text. Raises `UserError` with the file and the first bad byte."""
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            bad = content[error.start]
            raise UserError(f"{name} is not UTF-8: byte {error.start} is 0x{bad:02x}") from error
        if "\x00" in text:
            raise UserError(f"{name} is not text: byte {content.index(0)} is 0x00")
        return text.replace("\r\n", "\n").replace("\r", "\n")


@final
class Markdown(Extractor):
    """Markdown without what only a renderer needs: front matter, comments, tags, addresses of links.

    Headings, lists, emphasis and code stay as written.
    """

    def extract(self, content: bytes, name: str) -> str:
        """The text. Raises `UserError` with the file and the first bad byte."""
        text = PlainText().extract(content, name)
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
        pieces = re.split(r"(^```.*?^```|`[^`\n]+`)", text, flags=re.MULTILINE | re.DOTALL)
        pieces[::2] = [_without_markup(piece) for piece in pieces[::2]]  # the odd ones are code
        return re.sub(r"\n{3,}", "\n\n", "".join(pieces)).strip() + "\n"


def _without_markup(text: str) -> str:
    text = re.sub(r"<!--.*?-->|<(math|script|style)\b.*?</\1>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"</?[a-zA-Z][^<>]*>", "", text)
    return re.sub(r"!?\[([^\]\[]*)\]\([^()\s]*(?: \"[^\"]*\")?\)", r"\1", text)


@final
class HTML(Extractor):
    """The main text of a web page, by trafilatura: without menus, banners and footers.

    Args:
        tables: keep tables.
    """

    def __init__(self, tables: bool = True) -> None:
        self.tables = tables
        _probe()

    def extract(self, content: bytes, name: str) -> str:
        """The text; empty when the page has none."""
        import trafilatura

        tree = trafilatura.load_html(content)
        if tree is None:
            raise UserError(f"{name} is not HTML")
        main = trafilatura.extract(tree, include_comments=False, include_tables=self.tables)
        return f"{main or trafilatura.html2txt(content)}\n"


def _probe() -> None:
    """Fail now, and not page by page, where the extractor does not work."""
    try:
        import trafilatura
    except ImportError as error:
        raise UserError(
            f"HTML needs trafilatura, which cannot be imported ({error}); pip install trafilatura lxml_html_clean"
        ) from error
    page = "<html><body><article><p>The lamp on the harbour wall turns twice a minute.</p></article></body></html>"
    if "harbour" not in (trafilatura.extract(page) or ""):
        raise UserError(f"trafilatura {trafilatura.__version__} finds no text in a simple page; reinstall it")
