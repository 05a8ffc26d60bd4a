"""Bulleted lists for resiliparse, whose extraction of main text drops ``<ul>``: those of prose become ``<ol>``, marked.

A list of links is a menu and stays what it is.
"""

from __future__ import annotations

import re

MARK = "\ue012"  # in place of a number
LIST = re.compile(r"<(/?)ul\b([^>]*)>", re.IGNORECASE)
LINK = re.compile(r"<a\b[^>]*>(.*?)</a\s*>", re.DOTALL | re.IGNORECASE)
NO_TEXT = re.compile(r"<[^>]*>|\s+")
TAG = re.compile(r"<(/?)(ul|ol|li)\b([^>]*)>", re.IGNORECASE)
NO_PROSE = re.compile(
    r"(?:class|id|role)\s*=\s*[\"']?[^\"'>]*(?:menu|nav|breadcrumb|share|social|tags?\b|pagination|pager|widget|sidebar|"
    r"toolbar|tabs?\b|footer|meta|related|comment|archive|blogroll|directory)",
    re.IGNORECASE,
)
WITHIN = re.compile(
    rf"{MARK}((?:\s*<(?:p|div|span|b|i|strong|em|a|font|code|u|small|pre|h[1-6])\b[^>]*>)+)", re.IGNORECASE
)
MARKED = re.compile(rf"\d+\.([ \t]*\s?){MARK}[ \t]*")
MOST_LINKED = 0.5  # of the letters of a list of prose


def with_lists(source: str) -> str:
    """A page whose bulleted lists of prose are numbered ones, marked so that the numbers can be taken out again."""
    out: list[str] = []
    at = level = start = 0
    attributes = ""
    for tag in LIST.finditer(source) if "<ul" in source or "<UL" in source else ():
        if not tag[1]:
            if not level:
                start, attributes = tag.start(), tag[2]
            level += 1
        elif level:
            level -= 1
            if not level and not NO_PROSE.search(attributes) and _is_prose(source[start : tag.end()]):
                out += [source[at:start], _numbered(source[start : tag.end()])]
                at = tag.end()
    return "".join([*out, source[at:]]) if out else source


def _is_prose(source: str) -> bool:
    letters = len(NO_TEXT.sub("", source))
    return letters > 0 and sum(len(NO_TEXT.sub("", text)) for text in LINK.findall(source)) <= MOST_LINKED * letters


def without_marks(text: str) -> str:
    """A text whose marked numbers are bullets."""
    return MARKED.sub(r"•\1", text).replace(MARK, "") if MARK in text else text


def _numbered(source: str) -> str:
    """A list with its inner ones, numbered; items of numbered lists in it keep their numbers."""
    kinds: list[str] = []

    def renamed(tag: re.Match[str]) -> str:
        name = (tag[2] or "").lower()
        if name in ("ul", "ol"):
            if tag[1]:
                kinds and kinds.pop()
            else:
                kinds.append(name)
            return f"<{tag[1]}ol{tag[3]}>"
        if name == "li" and not tag[1] and kinds and kinds[-1] == "ul":
            return f"{tag[0]}{MARK}"
        return tag[0]

    return WITHIN.sub(rf"\1{MARK}", TAG.sub(renamed, source))
