"""The laws of scorers and annotators catch those that break them, and say which law."""

from __future__ import annotations

import itertools
import json
import pickle
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import pytest

from phi3kit.corpus.scorers import HashedNGrams
from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled, Scorer
from phi3kit.testing import contracts
from phi3kit.testing.law import LawBroken


class Mean(Scorer):
    """The smallest scorer that learns: mean label, tilted by the share of vowels. Keeps every law."""

    def __init__(self) -> None:
        self.mean: float | None = None

    @property
    def aspect(self) -> str:
        return "educational"

    @property
    def version(self) -> str:
        if self.mean is None:
            raise UserError("Mean is not trained; train it")
        return f"v{self.mean:.6f}"

    def fit(self, texts: Any, labels: Any) -> None:
        if min(labels) >= 3 or max(labels) < 3:
            raise UserError("all labels are on one side; label others")
        self.mean = sum(label * len(text) for text, label in zip(texts, labels, strict=True)) / sum(map(len, texts))

    def score(self, texts: Any) -> list[float]:
        if self.mean is None:
            raise UserError("Mean is not trained; train it")
        return [self.mean * (1 + sum(map(text.count, "aeiou"))) / (1 + len(text)) for text in texts]

    def save(self, folder: Path) -> None:
        (folder / "mean.json").write_text(json.dumps(self.mean))

    @classmethod
    def load(cls, folder: Path) -> Mean:
        made = cls()
        made.mean = json.loads((folder / "mean.json").read_text())
        return made


@final
class LooksAtNeighbours(Mean):
    def score(self, texts: Any) -> list[float]:
        return [score / (1 + max(map(len, texts), default=0)) for score in super().score(texts)]


@final
class Forgets(Mean):
    counter = itertools.count()

    def score(self, texts: Any) -> list[float]:
        return [score + next(self.counter) for score in super().score(texts)]


@final
class LooksAtOrder(Mean):
    def score(self, texts: Any) -> list[float]:
        return [score + 0.01 * (i and len(texts) > 1) for i, score in enumerate(super().score(texts))]


@final
class Pickles(Mean):
    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "mean.pkl").write_bytes(pickle.dumps(self.mean))


@final
class Downloads(Mean):
    @classmethod
    def load(cls, folder: Path) -> Mean:
        urllib.request.urlopen("http://127.0.0.1:9/", timeout=1)
        return super().load(folder)


@final
class LosesItsMean(Mean):
    @classmethod
    def load(cls, folder: Path) -> Mean:
        made = super().load(folder)
        made.mean = round(made.mean or 0)
        return made


@final
class StaysAtHome(Mean):
    def __getstate__(self) -> dict[str, Any]:
        return {"mean": 1.0}


@final
class AlwaysTheSameVersion(Mean):
    @property
    def version(self) -> str:
        return "v1" if super().version else ""


@final
class LearnsNothing(Mean):
    def score(self, texts: Any) -> list[float]:
        super().score(texts)
        return [float(len(text)) for text in texts]


@final
class TrainsOnAnything(Mean):
    def fit(self, texts: Any, labels: Any) -> None:
        self.mean = sum(label * len(text) for text, label in zip(texts, labels, strict=True)) / sum(map(len, texts))


@final
class ScoresUntrained(Mean):
    def score(self, texts: Any) -> list[float]:
        return super().score(texts) if self.mean is not None else [0.0 for _ in texts]


@final
class NotANumber(Mean):
    def score(self, texts: Any) -> list[float]:
        return [
            score if text.strip() else float("nan") for text, score in zip(texts, super().score(texts), strict=True)
        ]


@final
class Improbable(Mean):
    probability = True


def test_the_smallest_scorer_keeps_the_laws() -> None:
    contracts.check_scorer(Mean)
    contracts.check(HashedNGrams)


@pytest.mark.parametrize(
    ("scorer", "law"),
    [
        (LooksAtNeighbours, "a text has the same score alone and in a batch"),
        (LooksAtOrder, "a text has the same score alone and in a batch"),
        (Forgets, "a scorer is deterministic"),
        (Pickles, "what is saved holds no pickles; mean.pkl"),
        (LosesItsMean, "a loaded scorer is the one that was saved"),
        (StaysAtHome, "a scorer travels to worker processes"),
        (AlwaysTheSameVersion, "another fit is another version"),
        (LearnsNothing, "a scorer learns; labels turned round give the same scores"),
        (TrainsOnAnything, "labels that are all on one side are refused"),
        (ScoresUntrained, "an untrained scorer has no scores and no version"),
        (NotANumber, "a scorer gives one finite number per text"),
        (Improbable, "a probability lies within 0 and 1"),
    ],
)
def test_a_scorer_that_breaks_a_law_is_caught(scorer: type[Scorer], law: str) -> None:
    with pytest.raises(LawBroken) as error:
        contracts.check(scorer)
    assert f"{scorer.__name__}: law broken: {law}" in str(error.value)


def test_a_scorer_that_loads_from_the_network_is_caught() -> None:
    with pytest.raises(LawBroken, match="a scorer loads without network; it opened a connection"):
        contracts.check_scorer(Downloads)


class Lengths(Annotator):
    """Keeps every law."""

    @property
    def aspect(self) -> str:
        return "educational"

    @property
    def version(self) -> str:
        return "by length"

    def annotate(self, documents: Any) -> Iterator[Labelled]:
        for document in documents:
            yield Labelled(document, float(len(document.text) % 6))


@final
class OffTheScale(Lengths):
    def annotate(self, documents: Any) -> Iterator[Labelled]:
        return (x._replace(label=x.label * 2) for x in super().annotate(documents))


@final
class Shuffles(Lengths):
    def annotate(self, documents: Any) -> Iterator[Labelled]:
        return iter(list(super().annotate(documents))[::-1])


@final
class Repeats(Lengths):
    def annotate(self, documents: Any) -> Iterator[Labelled]:
        return (x for labelled in super().annotate(documents) for x in (labelled, labelled))


@final
class Moody(Lengths):
    calls = itertools.count()

    def annotate(self, documents: Any) -> Iterator[Labelled]:
        mood = next(self.calls) % 2
        return (x._replace(label=float(mood)) for x in super().annotate(documents))


@final
class Scribbles(Lengths):
    def annotate(self, documents: Any) -> Iterator[Labelled]:
        for labelled in super().annotate(documents):
            labelled.document.metadata["label"] = labelled.label
            yield labelled


@final
class Silent(Lengths):
    def annotate(self, documents: Any) -> Iterator[Labelled]:
        return iter(())


@pytest.mark.parametrize(
    ("annotator", "law"),
    [
        (OffTheScale, "labels are numbers from 0 to 5"),
        (Shuffles, "labelled documents come in the order given, each at most once"),
        (Repeats, "labelled documents come in the order given, each at most once"),
        (Moody, "the same document always gets the same label"),
        (Scribbles, "an annotator leaves its documents as they are"),
        (Silent, "an annotator labels something"),
    ],
)
def test_an_annotator_that_breaks_a_law_is_caught(annotator: type[Annotator], law: str) -> None:
    contracts.check(Lengths)
    with pytest.raises(LawBroken) as error:
        contracts.check(annotator)
    assert f"{annotator.__name__}: law broken: {law}" in str(error.value)
