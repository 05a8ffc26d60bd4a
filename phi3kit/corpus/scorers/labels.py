"""Documents with their labels, ready to learn from or to be judged by: each text once, and enough of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter

from phi3kit.corpus.scorers.counting import counted
from phi3kit.corpus.scorers.seen import Seen, text_hash
from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled, Reader, Scorer
from phi3kit.records import Document

AT_ONCE = 256  # texts scored together


@dataclass
class Counts:
    """What became of the documents read.

    Args:
        read: all of them.
        excluded: trained the scorer that is judged.
        same_text: have the text of one before them.
        labelled: have a label.
        first_ids: of the first documents, to show where nothing matches.
    """

    read: int = 0
    excluded: int = 0
    same_text: int = 0
    labelled: int = 0
    first_ids: list[str] = field(default_factory=list)


def distinct(documents: Iterable[Document], counts: Counts, seen: Seen | None = None) -> Iterator[Document]:
    """Documents with a text of their own that did not train the scorer."""
    texts: set[int] = set()
    ids: set[str] = set()
    for document in documents:
        counts.read += 1
        if document.id in ids:
            raise UserError(f"two documents have the id {document.id!r}; ids must be unique (see `id_field`)")
        ids.add(document.id)
        if len(counts.first_ids) < 3:
            counts.first_ids.append(document.id)
        digest = text_hash(document.text)
        if digest in texts or not document.text.strip():
            counts.same_text += 1
        elif seen is not None and document in seen:
            counts.excluded += 1
        else:
            texts.add(digest)
            yield document


def sampled(documents: Iterable[Document], n: int | None) -> Iterator[Document]:
    """At most n documents, chosen by the hashes of their texts, in the order given; None means all of them."""
    if n is None:
        yield from documents
        return
    order = ((text_hash(document.text), place, document) for place, document in enumerate(documents))
    for _, _, document in sorted(heapq.nsmallest(n, order, key=itemgetter(0, 1)), key=itemgetter(1)):
        yield document


def read_labelled(
    readers: Sequence[Reader],
    annotator: Annotator,
    scorer: Scorer,
    quiet: bool,
    seen: Seen | None = None,
    sample: int | None = None,
) -> tuple[list[Labelled], Counts]:
    """The documents the annotator has labels for, and the counts of all; only a sample is labelled if so asked.

    Raises:
        UserError: labels of another aspect, no documents, or labels that match none of them.
    """
    if annotator.aspect != scorer.aspect:
        raise UserError(
            f"the scorer is for {scorer.aspect!r}, but the labels are about {annotator.aspect!r}; set `aspect` of both "
            "to the same"
        )
    counts = Counts()
    documents = distinct(chain.from_iterable(reader.read() for reader in readers), counts, seen)
    labelled = list(annotator.annotate(counted(sampled(documents, sample), "label", quiet)))
    counts.labelled = len(labelled)
    if not counts.read:
        raise UserError("the readers found no documents; point them at files that hold some")
    if counts.excluded and not labelled:
        raise UserError(
            f"all {counts.excluded} labelled documents trained this scorer, so it would only flatter itself; "
            "give documents it has not seen"
        )
    if not labelled:
        keys: list[str] = getattr(annotator, "keys", list)()  # those of a file show what went wrong
        shown = f" Labels are for {', '.join(map(repr, keys))}, …;" if keys else ""
        raise UserError(
            f"none of {counts.read} documents has a label.{shown} documents are "
            f"{', '.join(map(repr, counts.first_ids))}, …; labels match by text, or where `id_field` is set by id"
        )
    return labelled, counts


def score_all(scorer: Scorer, labelled: Sequence[Labelled], quiet: bool) -> list[float]:
    """The scores of labelled documents, some at a time."""
    starts = range(0, len(labelled), AT_ONCE)
    groups = counted(starts, f"score: groups of {AT_ONCE} texts", quiet)
    return [s for i in groups for s in scorer.score([x.document.text for x in labelled[i : i + AT_ONCE]])]
