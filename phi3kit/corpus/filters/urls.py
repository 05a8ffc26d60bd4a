"""Addresses nobody wants pages from: block lists of domains, addresses and words.

Domains are looked up in a sorted array of hashes: datatrove's bundled list of 4.6 million takes 37 MB.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import IO, NamedTuple, final
from urllib.parse import urlsplit

import numpy

from phi3kit.errors import UserError
from phi3kit.families import Filter
from phi3kit.records import Document

NOT_A_WORD = re.compile(r"[^a-z0-9]+")
BUNDLED = (
    "url_filterblacklistsv0_3_0.tar.gz"  # datatrove's; from UT1 (https://dsi.ut-capitole.fr/blacklists/), CC BY-SA
)


class Lists(NamedTuple):
    """What is blocked; hashes are sorted."""

    domains: numpy.ndarray
    urls: numpy.ndarray
    words: frozenset[str]
    soft_words: frozenset[str]
    parts: re.Pattern[str] | None


@final
class BlockedURLs(Filter):
    """Rejects pages by the address in ``metadata["url"]``; documents without one stay.

    A list is a text file, one entry per line; lines that begin with # are comments. A blocked domain blocks its
    subdomains.

    Args:
        domains: files of domains.
        urls: files of whole addresses.
        words: files of words that must not stand in an address.
        soft_words: files of words of which an address must not have `most_soft_words` or more.
        parts: files of letters that must not occur in an address, even inside of words.
        most_soft_words: see `soft_words`.
        bundled: block datatrove's lists as well, those that FineWeb used (licence: CC BY-SA); loads in seconds.
    """

    def __init__(
        self,
        domains: Sequence[str] = (),
        urls: Sequence[str] = (),
        words: Sequence[str] = (),
        soft_words: Sequence[str] = (),
        parts: Sequence[str] = (),
        most_soft_words: int = 2,
        bundled: bool = False,
    ) -> None:
        self.files = tuple(tuple(kind) for kind in (domains, urls, words, soft_words, parts))
        self.most_soft_words, self.bundled = most_soft_words, bundled
        for path in (path for kind in self.files for path in kind):
            if not Path(path).is_file():
                raise UserError(f"the block list {path} is no file; give a text file of one entry per line")

    def reject(self, document: Document) -> str | None:
        """What is blocked about its address, or None."""
        url = str(document.metadata.get("url") or "")
        if not url:
            return None
        lists = _load(self.files, self.bundled)
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
        if _any_in(_domains_of(host), lists.domains):
            return "blocked domain"
        if _any_in([url], lists.urls):
            return "blocked address"
        words = set(NOT_A_WORD.split(url.lower()))
        if words & lists.words:
            return "blocked word in the address"
        if lists.soft_words and len(words & lists.soft_words) >= self.most_soft_words:
            return "blocked words in the address"
        if lists.parts and lists.parts.search(NOT_A_WORD.sub("", url.lower())):
            return "blocked letters in the address"
        return None


def _domains_of(host: str) -> list[str]:
    """a.b.example.org -> itself, b.example.org, example.org."""
    labels = host.lower().rstrip(".").split(".")
    return [".".join(labels[i:]) for i in range(max(1, len(labels) - 1))]


def _any_in(texts: Iterable[str], hashes: numpy.ndarray) -> bool:
    if not len(hashes):
        return False
    wanted = _hashes(texts)
    places = numpy.minimum(numpy.searchsorted(hashes, wanted), len(hashes) - 1)
    return bool((hashes[places] == wanted).any())


def _hashes(texts: Iterable[str]) -> numpy.ndarray:
    from xxhash import xxh3_64_intdigest

    return numpy.fromiter(map(xxh3_64_intdigest, texts), numpy.uint64)


@lru_cache(4)
def _load(files: tuple[tuple[str, ...], ...], bundled: bool) -> Lists:
    """Read the lists, once per process."""
    entries: list[Iterator[str]] = [_entries_of(kind) for kind in files]
    if bundled:
        entries = [_chain(own, more) for own, more in zip(entries, _bundled(), strict=True)]
    domains, urls, words, soft_words, parts = entries
    plain = [frozenset(NOT_A_WORD.sub("", entry.lower()) for entry in kind) for kind in (words, soft_words, parts)]
    pattern = re.compile("|".join(map(re.escape, sorted(plain[2])))) if plain[2] else None
    return Lists(numpy.sort(_hashes(domains)), numpy.sort(_hashes(urls)), plain[0], plain[1], pattern)


def _chain(*parts: Iterator[str]) -> Iterator[str]:
    for part in parts:
        yield from part


def _entries_of(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        with open(path, encoding="utf-8") as stream:
            yield from _entries(stream)


def _entries(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in map(str.strip, lines) if line and line[0] != "#")


def _bundled() -> list[Iterator[str]]:
    """datatrove's lists, in the order of the options."""
    assets = resources.files("datatrove") / "assets"
    text = lambda name: _entries((assets / name).read_text("utf-8").splitlines())  # noqa: E731
    return [
        *(_packed(assets / BUNDLED, name) for name in ("domains", "urls")),
        *(text(name) for name in ("banned_words.txt", "soft_banned_words.txt", "banned_subwords.txt")),
    ]


def _packed(archive: object, name: str) -> Iterator[str]:
    with tarfile.open(str(archive)) as tar:
        member: IO[bytes] | None = tar.extractfile(name)
        assert member is not None, f"{archive} has no {name}"
        yield from _entries(line.decode("utf-8", "replace") for line in member)
