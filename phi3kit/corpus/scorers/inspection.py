"""Look at a scorer as it is: on labelled documents, or on any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from phi3kit.corpus.scorers import quality
from phi3kit.corpus.scorers.labels import Counts, distinct, read_labelled, sampled, score_all
from phi3kit.corpus.scorers.report import Scored, describe, rate, scored
from phi3kit.corpus.scorers.saved import SavedScorer
from phi3kit.corpus.scorers.seen import Seen
from phi3kit.corpus.scorers.summary import begin, finish, write_report
from phi3kit.corpus.scorers.two_sides import sides
from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled, Reader, Scorer


@final
class ScorerReport:
    """What `phi3kit score report` looks at.

    Args:
        scorer: as it is: one that was trained (SavedScorer), or one that needs no training.
        documents: what it scores; those that trained it are left out.
        annotator: labels to compare it with; null: no quality, only scores by source and samples.
        threshold: where documents are told apart; null: the one found in training, or where F1 is best, or the median.
        sample: look at no more than so many documents, chosen by the hashes of their texts; null: at all.
    """

    def __init__(
        self,
        scorer: Scorer,
        documents: Sequence[Reader],
        annotator: Annotator | None = None,
        threshold: float | None = None,
        sample: int | None = 20_000,
    ) -> None:
        if scorer.learns:
            raise UserError(
                f"{type(scorer).__name__} is not trained; `phi3kit score fit` trains it and reports on it, SavedScorer "
                "names one that is"
            )
        self.scorer, self.documents, self.annotator = scorer, documents, annotator
        self.threshold, self.sample = threshold, sample

    def run(self, out: Path, quiet: bool = False) -> dict[str, Any]:
        """Score the documents, write the report into `out`, and return it."""
        seen = Seen.load(Path(self.scorer.path)) if isinstance(self.scorer, SavedScorer) else None
        if self.annotator is not None:
            labelled, counts = read_labelled(self.documents, self.annotator, self.scorer, quiet, seen, self.sample)
            items = scored(labelled, score_all(self.scorer, labelled, quiet))
            wanted = sides([x.document.text for x in labelled], [x.label for x in labelled], self.scorer.positive)
        else:
            counts = Counts()
            read = (document for reader in self.documents for document in reader.read())
            unlabelled = [Labelled(document, 0.0) for document in sampled(distinct(read, counts, seen), self.sample)]
            if not unlabelled:
                raise UserError(f"no document is left to score of {counts.read}; give ones that did not train it")
            values = score_all(self.scorer, unlabelled, quiet)
            items, wanted = [Scored(x.document, s) for x, s in zip(unlabelled, values, strict=True)], None
        threshold, origin = self._threshold(items, wanted)
        report = begin(self.scorer, counts, threshold, origin, self.annotator)
        if wanted is not None:
            report["quality"] = rate(items, self.scorer.positive, threshold, self.scorer.probability)
        report = finish(report | describe(items, threshold))
        out.mkdir(parents=True, exist_ok=True)
        write_report(report, out)
        return report

    def _threshold(self, items: Sequence[Scored], wanted_N: np.ndarray | None) -> tuple[float, str]:
        if self.threshold is not None:
            return self.threshold, "given"
        if isinstance(self.scorer, SavedScorer) and self.scorer.threshold is not None:
            return self.scorer.threshold, "found in training"
        if wanted_N is not None:
            return quality.best_threshold([item.score for item in items], wanted_N), "best F1"
        return float(np.median([item.score for item in items])), "median"
