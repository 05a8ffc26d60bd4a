"""Phases as queries over one scored set: which documents each phase trains on, and how often.

The first phase may hold everything but synthetic texts. Later ones take documents of the first, by rules that are
never laxer, and synthetic texts: "more heavily filtered web data (a subset used in phase 1) with some synthetic data"
(Phi-3 report, arXiv 2404.14219, section 2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import final

from phi3kit.corpus.profiles import judge
from phi3kit.corpus.shards import SCORES
from phi3kit.errors import UserError, nearest
from phi3kit.families import Filter
from phi3kit.records import Document

SYNTHETIC = "synthetic"  # metadata key: made by a model, or out of other documents


@final
class Mixture:
    """How much of each source a phase trains on, by tokens.

    Args:
        weights: source -> its share; shares need not sum to 1, sources not named are left out.
        most_epochs: how often a document may come, at most; a source too small for its share comes that often.
        tokens: how many in all; null: as many as can be had with every source at its share.
    """

    def __init__(self, weights: Mapping[str, float], most_epochs: float = 1.0, tokens: int | None = None) -> None:
        if not weights or min(weights.values()) <= 0:
            raise UserError(f"the weights of a mixture are {dict(weights)}; give each source a share above 0")
        if most_epochs <= 0:
            raise UserError(f"most_epochs is {most_epochs}; give a number above 0")
        self.weights, self.most_epochs, self.tokens = dict(weights), most_epochs, tokens

    def epochs(self, available: Mapping[str, int]) -> dict[str, float]:
        """source -> how often its documents come, of sources with so many tokens."""
        total = sum(self.weights.values())
        shares = {source: weight / total for source, weight in self.weights.items() if available.get(source)}
        if not shares:
            return {}
        wanted = self.tokens or min(self.most_epochs * available[s] / share for s, share in shares.items())
        return {s: min(wanted * share / available[s], self.most_epochs) for s, share in shares.items()}


@final
class Query:
    """The documents of one phase.

    Args:
        name: of its folder: "web", "reasoning".
        sources: names of the sources it takes; null: all.
        least: aspect -> least score, e.g. {educational: 0.5}.
        most: aspect -> highest score, e.g. {toxicity: 0.2}.
        filters: its documents must pass these as well.
        synthetic: take synthetic texts too; `least`, `most` and `filters` are not asked of them.
        synthetic_least: aspect -> least score of synthetic texts.
        synthetic_most: aspect -> highest score of synthetic texts.
        mixture: how much of each source; null: every document once.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[str] | None = None,
        least: Mapping[str, float] | None = None,
        most: Mapping[str, float] | None = None,
        filters: Sequence[Filter] = (),
        synthetic: bool = False,
        mixture: Mixture | None = None,
        synthetic_least: Mapping[str, float] | None = None,
        synthetic_most: Mapping[str, float] | None = None,
    ) -> None:
        if not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"the phase {name!r} cannot name a folder; use letters, digits, - and _")
        self.name, self.sources, self.filters = name, list(sources) if sources is not None else None, filters
        self.least, self.most = dict(least or {}), dict(most or {})
        self.synthetic, self.mixture = synthetic, mixture
        self.synthetic_least, self.synthetic_most = dict(synthetic_least or {}), dict(synthetic_most or {})

    def reject(self, document: Document) -> tuple[str, str] | None:
        """What keeps a document out (the rule's name, the reason), or None."""
        if self.sources is not None and document.source not in self.sources:
            return "sources", "not a source of this phase"
        scores: Mapping[str, float] = document.metadata.get(SCORES, {})
        if document.metadata.get(SYNTHETIC):
            if not self.synthetic:
                return "synthetic", "synthetic texts are not of this phase"
            return _beyond(scores, self.synthetic_least, self.synthetic_most)
        return _beyond(scores, self.least, self.most) or judge(self.filters, document)[1]


def _beyond(
    scores: Mapping[str, float], least: Mapping[str, float], most: Mapping[str, float]
) -> tuple[str, str] | None:
    for aspect, bound in least.items():
        if scores[aspect] < bound:
            return aspect, f"below {bound:g}"
    for aspect, bound in most.items():
        if scores[aspect] > bound:
            return aspect, f"above {bound:g}"
    return None


def check_queries(queries: Sequence[Query], aspects: Sequence[str], sources: Mapping[str, bool]) -> None:
    """Refuse phases that contradict the scores, the sources or each other.

    Args:
        queries: of the phases, in order.
        aspects: what is scored.
        sources: name -> whether synthetic; empty where the documents name their sources themselves.

    Raises:
        UserError: a name that does not exist, or a later phase laxer than the first.
    """
    names = [query.name for query in queries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two phases are called {twice[0]!r}; give each a name of its own")
    for query in queries:
        named = [*(query.sources or ()), *(query.mixture.weights if query.mixture else ())]
        for source in named if sources else ():
            if source not in sources:
                raise UserError(f"phase {query.name!r} names no source {source!r}{nearest(source, sources)}")
        for aspect in [*query.least, *query.most, *query.synthetic_least, *query.synthetic_most]:
            if aspect not in aspects:
                told = nearest(aspect, aspects) or "; add a scorer for it"
                raise UserError(f"phase {query.name!r} asks for {aspect!r}, which is not scored{told}")
    first = queries[0]
    if first.synthetic:
        raise UserError(f"phase {first.name!r} is the first and takes synthetic texts; only later ones may")
    for query in queries[1:]:
        _check_stricter(first, query, sources)


def _check_stricter(first: Query, query: Query, sources: Mapping[str, bool]) -> None:
    for aspect, bound in query.least.items():
        if bound < first.least.get(aspect, bound):
            low = first.least[aspect]
            raise UserError(f"phase {query.name!r} asks for {aspect} >= {bound:g}, less than {first.name!r} ({low:g})")
    for aspect, bound in query.most.items():
        if bound > first.most.get(aspect, bound):
            high = first.most[aspect]
            raise UserError(f"phase {query.name!r} asks for {aspect} <= {bound:g}, more than {first.name!r} ({high:g})")
    if first.sources is not None:
        for source in query.sources or ():
            if source not in first.sources and not sources.get(source):
                raise UserError(
                    f"phase {query.name!r} takes the source {source!r}, which {first.name!r} does not: only synthetic "
                    f"texts may be new; add it to {first.name!r} or mark it `synthetic: true`"
                )
