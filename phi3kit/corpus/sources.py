"""Where documents come from, and by which rules they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from phi3kit.errors import UserError
from phi3kit.families import Filter, Reader


@final
class Source:
    """One source of documents.

    Args:
        name: what reports call it, and what phases and mixtures name.
        reader: reads it.
        filters: a document of it must pass them all, besides the filters for all sources.
        licence: what the texts may be used for; goes into the manifest.
        synthetic: its texts were made by a model: they never enter the first phase.
    """

    def __init__(
        self, name: str, reader: Reader, filters: Sequence[Filter] = (), licence: str = "", synthetic: bool = False
    ) -> None:
        if not name.strip() or "\n" in name:
            raise UserError(f"a source is called {name!r}; give it a name of one line")
        self.name, self.reader, self.filters = name, reader, filters
        self.licence, self.synthetic = licence, synthetic
