"""Markup within texts as breaks: what stands between two tags is read as if they were line ends."""

from __future__ import annotations

import re

NAMES = (
    "a|abbr|article|aside|b|blockquote|body|br|center|code|col|dd|del|div|dl|dt|em|figcaption|figure|font|footer|h[1-6]"
    "|head|header|hr|html|i|img|ins|kbd|li|main|mark|nav|ol|p|pre|q|s|samp|section|small|span|strong|sub|sup|table|tbody"
    "|td|tfoot|th|thead|title|tr|tt|u|ul|var|wbr"
)
VALUE = r"""(?:"[^"<>]*"|'[^'<>]*'|[^\s"'=<>`]+)"""
MARKUP = re.compile(rf"</?(?:{NAMES})(?:\s+[\w:-]+\s*=\s*{VALUE})*\s*/?>|&(?:[a-z]{{2,6}}|#\d{{1,6}});", re.IGNORECASE)


def without_tags(text: str) -> str:
    """The text with a line end in place of every character of HTML's tags and entities: as long as before."""
    if "<" not in text and "&" not in text:
        return text
    return MARKUP.sub(lambda tag: "\n" * len(tag[0]), text)
