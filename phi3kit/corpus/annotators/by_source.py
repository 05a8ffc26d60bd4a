"""Labels guessed from where a document came from: cheap, and weak."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import final

from phi3kit.corpus.annotators.scale import checked
from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled
from phi3kit.records import Document


@final
class BySource(Annotator):
    """Gives all documents of a source the same label.

    A scorer learns from them to tell sources apart, which is not the same as quality: textbooks and Wikipedia
    against web pages gave an AUC of only 0.66 to 0.69 against people's labels. Name trusted labels beside.

    Args:
        labels: source -> label from 0 to 5, e.g. {textbooks: 5, web: 0}.
        aspect: what the labels are about.
    """

    weak = True

    def __init__(self, labels: Mapping[str, float], aspect: str = "educational") -> None:
        if not labels:
            raise UserError("BySource has no labels; give some, e.g. {textbooks: 5, web: 0}")
        self.labels = {s: checked(float(label), label, f"source {s!r}") for s, label in labels.items()}
        self._aspect = aspect

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """The labels themselves."""
        return f"by source {json.dumps(self.labels, sort_keys=True)}"

    def annotate(self, documents: Iterable[Document]) -> Iterator[Labelled]:
        """The documents of the sources named."""
        for document in documents:
            if document.source in self.labels:
                yield Labelled(document, self.labels[document.source], f"from {document.source}")

    def keys(self) -> list[str]:
        """The sources named: for an error that shows why nothing matches."""
        return list(self.labels)
