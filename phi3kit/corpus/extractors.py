"""From the bytes of a file to its text."""

from __future__ import annotations

import gzip
import re
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import final

from phi3kit.corpus.charsets import decoded
from phi3kit.corpus.page_lists import with_lists, without_marks
from phi3kit.corpus.page_markup import with_text
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
class HTML(Extractor):
    """The main text of a web page, by trafilatura: without menus, banners and footers, with formulas as TeX.

    Args:
        tables: keep tables.
        timeout: seconds after which a page counts as unreadable.
    """

    def __init__(self, tables: bool = True, timeout: float = 20.0) -> None:
        self.tables, self.timeout = tables, timeout
        _probe("trafilatura", "trafilatura lxml_html_clean", self)

    def extract(self, content: bytes, name: str) -> str:
        """The text; empty when the page has none."""
        return self.extract_as(content, name, "")

    def extract_as(self, content: bytes, name: str, charset: str) -> str:
        """The text of a page whose server said in which charset it is."""
        import trafilatura
        from trafilatura.utils import detect_encoding

        with within(self.timeout, name):
            page = with_text(decoded(unpacked(content), charset, detect_encoding))
            tree = trafilatura.load_html(AMPERSAND.sub("&amp;amp;", page))
            if tree is None:
                raise UserError(f"{name} is not HTML")
            main = trafilatura.extract(tree, include_comments=False, include_tables=self.tables)
            return f"{main or trafilatura.html2txt(page)}\n"


@final
class FastHTML(Extractor):
    """The main text of a web page, by resiliparse: about five times as fast as trafilatura, and less strict.

    Args:
        links: keep the addresses of links.
        comments: keep readers' comments, and what asks for them.
        timeout: seconds after which a page counts as unreadable.
    """

    def __init__(self, links: bool = False, comments: bool = False, timeout: float = 20.0) -> None:
        self.links, self.comments, self.timeout = links, comments, timeout
        _probe("resiliparse.extract.html2text", "resiliparse", self)

    def extract(self, content: bytes, name: str) -> str:
        """The text; empty when the page has none."""
        return self.extract_as(content, name, "")

    def extract_as(self, content: bytes, name: str, charset: str) -> str:
        """The text of a page whose server said in which charset it is."""
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.encoding import detect_encoding

        def guess(page: bytes) -> list[str]:
            return [detect_encoding(page, html5_compatible=False) or ""]

        with within(self.timeout, name):
            page = with_lists(with_text(decoded(unpacked(content), charset, guess)))
            text = extract_plain_text(
                page, main_content=True, links=self.links, comments=self.comments, alt_texts=False, noscript=False
            )
            return f"{without_marks(text).strip()}\n"


# What a page shows as "&lt;": trafilatura reads its text's entities once more.
AMPERSAND = re.compile(r"&(?:amp|#0*38|#x0*26);(?=[#A-Za-z])", re.IGNORECASE)
PAGE = b"""<html><body><article><h1>The lamp</h1><p>The lamp on the harbour wall turns twice a minute, and ships
count the turns; so they know where they are.</p></article></body></html>"""


def _probe(module: str, packages: str, extractor: Extractor) -> None:
    """Fail now, and not page by page, where an extractor does not work."""
    try:
        import_module(module)
    except ImportError as error:
        raise UserError(
            f"{type(extractor).__name__} needs {module}, which cannot be imported ({error}); pip install {packages}"
        ) from error
    if "harbour" not in extractor.extract(PAGE, "a simple page"):
        raise UserError(f"{module} finds no text in a simple page; pip install --upgrade {packages}")


def unpacked(content: bytes) -> bytes:
    """A page as it is, or unpacked where it is packed by gzip."""
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b\x08") else content
    except (OSError, EOFError, zlib.error):
        return content


TIMED_OUT = "took too long"


@contextmanager
def within(seconds: float, name: str) -> Iterator[None]:
    """Interrupt the block after so many seconds, where that is possible: in a process's main thread.

    Raises:
        UserError: it took longer; the message holds `TIMED_OUT`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise UserError(f"{name}: extracting its text {TIMED_OUT} (more than {seconds:g} s)")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
