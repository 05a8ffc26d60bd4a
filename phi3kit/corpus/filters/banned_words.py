"""Words that must not occur, from a file of your own."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import final

from phi3kit.errors import UserError
from phi3kit.families import Filter
from phi3kit.records import Document


@final
class BannedWords(Filter):
    """Rejects documents that contain words or phrases of a list, in any case.

    Verdicts equal datatrove's C4BadWordsFilter with the same list, e.g. one of
    https://github.com/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words (CC BY 4.0).

    Args:
        path: a text file, one word or phrase per line; lines that begin with # are comments.
        most: how many may occur.
        whole_words: false: also inside of words, for languages without spaces.
    """

    def __init__(self, path: str, most: int = 0, whole_words: bool = True) -> None:
        if not Path(path).is_file():
            raise UserError(f"the list of banned words {path} is no file; give a text file of one word per line")
        self.path, self.most, self.whole_words = path, most, whole_words

    def reject(self, document: Document) -> str | None:
        """That there are such words, or None; which ones the reason does not repeat."""
        pattern = _pattern(self.path, self.whole_words)
        found = islice(pattern.finditer(document.text.lower()), self.most + 1)
        return "banned words" if sum(1 for _ in found) > self.most else None


@lru_cache(4)
def _pattern(path: str, whole_words: bool) -> re.Pattern[str]:
    lines = map(str.strip, Path(path).read_text(encoding="utf-8").lower().splitlines())
    words = sorted({line for line in lines if line and line[0] != "#"}, key=lambda word: (-len(word), word))
    if not words:
        raise UserError(f"{path} lists no banned words; give one per line")
    any_of = "|".join(map(re.escape, words))
    return re.compile(rf"(?<!\w)(?:{any_of})(?!\w)" if whole_words else any_of)
