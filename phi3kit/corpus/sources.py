"""Where documents come from, and by which rules they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from phi3kit.corpus import profiles
from phi3kit.errors import UserError
from phi3kit.families import Cleaner, Filter, Reader, Splitter


@final
class Source:
    """One source of documents.

    Args:
        name: what reports call it, and what phases and mixtures name.
        reader: reads it.
        profile: which rules fit it: web, curated, code or synthetic (see `profiles`); null: none of these.
        words: what a word is, where the profile asks; null: FineWebWords.
        filters: further filters and cleaners, after the profile's.
        licence: what the texts may be used for; goes into the manifest.
        optional: leave it out where there are no files of it.
        synthetic: its texts were made by a model: they never enter the first phase.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        profile: Literal["web", "curated", "code", "synthetic"] | None = None,
        words: Splitter | None = None,
        filters: Sequence[Filter | Cleaner] = (),
        licence: str = "",
        optional: bool = False,
        synthetic: bool = False,
    ) -> None:
        if not name.strip() or "\n" in name:
            raise UserError(f"a source is called {name!r}; give it a name of one line")
        self.name, self.reader, self.profile, self.words = name, reader, profile, words
        self.filters, self.licence = filters, licence
        self.optional, self.synthetic = optional, synthetic

    def is_there(self) -> bool:
        """Whether there is something to read. Raises `UserError` where it must be."""
        try:
            self.reader.files()
        except UserError:
            if not self.optional:
                raise
            return False
        return True

    def rules(self) -> list[Filter | Cleaner]:
        """What judges its documents, in order."""
        return [*(profiles.profile(self.profile, self.words) if self.profile else ()), *self.filters]
