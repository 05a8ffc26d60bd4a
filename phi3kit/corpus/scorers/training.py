"""Train a scorer on labels, and say what it is worth on documents it has not seen."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from phi3kit.corpus.scorers import quality
from phi3kit.corpus.scorers.counting import counted
from phi3kit.corpus.scorers.folder import ABOUT, save_scorer
from phi3kit.corpus.scorers.labels import Counts, read_labelled, score_all
from phi3kit.corpus.scorers.report import Scored, describe, rate, scored
from phi3kit.corpus.scorers.seen import Seen
from phi3kit.corpus.scorers.summary import begin, finish, write_report
from phi3kit.corpus.scorers.two_sides import sides
from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled, Reader, Scorer


@final
class ScorerTraining:
    """What `phi3kit score fit` trains, and on what.

    Args:
        scorer: what is trained.
        annotator: gives the labels.
        documents: where the labelled documents come from.
        sample: label at most so many of them, chosen by the hashes of their texts; null: all.
        folds: parts of the documents, each scored by a scorer trained on the others: the numbers of the report come
            from these; 0 trains once and reports no quality.
        threshold: where documents are told apart; null: where F1 is best.
        trusted: labels that the scorer is compared with beside its own, where these are weak or a model's.
        trusted_documents: documents of the trusted labels; none: the same documents.
        seed: of the folds.
    """

    def __init__(
        self,
        scorer: Scorer,
        annotator: Annotator,
        documents: Sequence[Reader],
        sample: int | None = None,
        folds: int = 5,
        threshold: float | None = None,
        trusted: Annotator | None = None,
        trusted_documents: Sequence[Reader] = (),
        seed: int = 0,
    ) -> None:
        if not scorer.learns:
            raise UserError(f"{type(scorer).__name__} learns nothing; look at it with `phi3kit score report`")
        if folds < 0 or folds == 1:
            raise UserError(f"folds is {folds}; give 2 or more, or 0 to train without cross-validation")
        self.scorer, self.annotator, self.documents, self.sample = scorer, annotator, documents, sample
        self.folds, self.threshold, self.seed = folds, threshold, seed
        self.trusted, self.trusted_documents = trusted, trusted_documents

    def run(self, out: Path, quiet: bool = False) -> dict[str, Any]:
        """Train, write the scorer and its report into `out`, and return the report.

        Raises:
            UserError: labels that nothing can be learned from. What was in `out` stays as it was.
        """
        _check(out)
        scorer = self.scorer
        labelled, counts = read_labelled(self.documents, self.annotator, scorer, quiet, sample=self.sample)
        wanted = sides([x.document.text for x in labelled], [x.label for x in labelled], scorer.positive)
        unseen = self._cross_validate(labelled, wanted, quiet)
        scorer.fit([x.document.text for x in labelled], [x.label for x in labelled])
        items = scored(labelled, unseen[0].tolist() if unseen else score_all(scorer, labelled, quiet))
        report = self._report(items, counts, wanted, unseen, quiet)
        partial = out.with_name(f"{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            trained_on = {"documents": len(labelled), "labels": self.annotator.version, "weak": self.annotator.weak}
            about = {"positive": scorer.positive, "threshold": report["threshold"], "trained_on": trained_on}
            save_scorer(scorer, partial, about)
            Seen.of(x.document for x in labelled).save(partial)
            write_report(report, partial)
            rows = ({"id": i.document.id, "label": i.label, "score": i.score} for i in items)
            (partial / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            _move_into_place(partial, out)
        except OSError as error:
            raise UserError(f"cannot write {partial}: {error.strerror or error}; {out} is as it was") from error
        return report

    def _cross_validate(
        self, labelled: Sequence[Labelled], wanted_N: np.ndarray, quiet: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """(a score per document, by a scorer that was not trained on it; its fold), each [N]; None without folds."""
        if not self.folds:
            return None
        fewest = int(min(wanted_N.sum(), len(wanted_N) - wanted_N.sum()))
        if fewest < self.folds:
            raise UserError(
                f"only {fewest} of {len(wanted_N)} labels are on one side of {self.scorer.positive:g}: too few for "
                f"{self.folds} folds; label more documents, or set `folds: {fewest if fewest > 1 else 0}`"
            )
        fold_N = quality.folds(wanted_N, self.folds, self.seed)
        score_N = np.empty(len(labelled))
        for fold in counted(range(self.folds), "cross-validate: fold", quiet):
            learner = copy.deepcopy(self.scorer)
            training = [x for x, f in zip(labelled, fold_N, strict=True) if f != fold]
            learner.fit([x.document.text for x in training], [x.label for x in training])
            held = np.flatnonzero(fold_N == fold).tolist()
            score_N[held] = learner.score([labelled[i].document.text for i in held])
        return score_N, fold_N

    def _report(
        self,
        items: list[Scored],
        counts: Counts,
        wanted_N: np.ndarray,
        unseen: tuple[np.ndarray, np.ndarray] | None,
        quiet: bool,
    ) -> dict[str, Any]:
        threshold, origin = self.threshold, "given"
        if threshold is None:
            if unseen is None:
                raise UserError("without folds there is no best threshold to find; give `threshold`, or set `folds: 5`")
            threshold, origin = quality.best_threshold(unseen[0], wanted_N), "best F1"
        report = begin(self.scorer, counts, threshold, origin, self.annotator)
        report["folds"] = self.folds
        if unseen is not None:
            score_N, fold_N = unseen
            inside = [fold_N == fold for fold in range(self.folds)]
            areas = [quality.auc(score_N[held_N], wanted_N[held_N]) for held_N in inside]
            report["quality"] = rate(items, self.scorer.positive, threshold, self.scorer.probability) | {
                "auc_of_folds": areas,
                "auc_spread": float(np.std(areas)),
            }
        report |= describe(items, threshold)
        if self.trusted is not None:
            report["trusted"] = self._compare(items, threshold, quiet)
        return finish(report)

    def _compare(self, items: list[Scored], threshold: float, quiet: bool) -> dict[str, Any]:
        """The scorer against the trusted labels; documents it was trained on keep the score of their fold."""
        assert self.trusted is not None
        held = {item.document.id: item.score for item in items} if self.folds else {}
        readers = self.trusted_documents or self.documents
        labelled, _ = read_labelled(readers, self.trusted, self.scorer, quiet)
        sides([x.document.text for x in labelled], [x.label for x in labelled], self.scorer.positive)
        own = self.scorer.score([x.document.text for x in labelled])
        scores = [held.get(x.document.id, score) for x, score in zip(labelled, own, strict=True)]
        rated = rate(scored(labelled, scores), self.scorer.positive, threshold, self.scorer.probability)
        return {"labels": self.trusted.version, **rated}


def _check(out: Path) -> None:
    if out.exists() and not (out / ABOUT).is_file() and any(out.iterdir()):
        raise UserError(f"{out} exists and holds no scorer; choose another `out`")


def _move_into_place(partial: Path, out: Path) -> None:
    """Rename, keeping what was there until the new folder is in its place."""
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(partial, out)
    shutil.rmtree(old, ignore_errors=True)
