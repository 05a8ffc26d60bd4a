"""Laws of `Scorer` and `Annotator`: what is learned is kept, what is scored does not depend on its company."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled, Scorer
from phi3kit.records import Document
from phi3kit.testing import tiny
from phi3kit.testing.corpus_laws import ODD_TEXTS
from phi3kit.testing.law import LawBroken, require

SAVED_AS = (".json", ".jsonl", ".safetensors", ".npz", ".txt")  # data; pickles run code when they are read
MOST = 5.0


def check_scorer(
    build: Callable[[], Scorer], texts: Sequence[str] = (), labels: Sequence[float] = (), tolerance: float = 0.0
) -> None:
    """Every law of `Scorer`.

    Args:
        build: makes the scorer, untrained where it learns.
        texts: to learn from; empty: the tiny corpus.
        labels: 0 to 5, one per text.
        tolerance: how far the same text's score may move between calls; 0 for anything that runs on a CPU.
    """
    texts, labels = list(texts) or list(tiny.TEXTS) * 3, list(labels) or [5.0, 0.0, 4.0, 1.0, 0.0, 5.0, 3.0, 2.0] * 3
    scorer = _trained(build, texts, labels)
    asked = [*texts, *ODD_TEXTS]
    scores = _scores(scorer, asked)
    for text, score in zip(asked, scores, strict=True):
        fine = isinstance(score, float) and math.isfinite(score)
        require(fine, "a scorer gives one finite number per text", f"{text[:30]!r} got {score!r}")
        if scorer.probability:
            require(0 <= score <= 1, "a probability lies within 0 and 1", f"{text[:30]!r} got {score}")
    require(scorer.score([]) == [], "no texts have no scores", f"it gave {scorer.score([])!r}")
    _same(scores, _scores(scorer, asked), tolerance, "a scorer is deterministic", "the second time")
    law = "a text has the same score alone and in a batch"
    _same(scores, [scorer.score([text])[0] for text in asked], tolerance, law, "alone")
    _same(scores, _scores(scorer, asked[::-1])[::-1], tolerance, law, "in another order")
    _check_names(scorer)
    law = "a scorer travels to worker processes"
    sent = pickle.loads(pickle.dumps(scorer))
    _same(scores, _scores(sent, asked), tolerance, law, "after pickling")
    require(sent.version == scorer.version, law, f"version {scorer.version} became {sent.version}")
    _check_saving(scorer, scores, asked, tolerance)
    if scorer.learns:
        _check_learning(build, scorer, scores, texts, labels, asked, tolerance)


def check_annotator(build: Callable[[], Annotator], documents: Sequence[Document] = ()) -> None:
    """Every law of `Annotator`: labels of 0 to 5, in order, each document once, the same every time.

    Args:
        build: makes the annotator; it must have a label for at least one document.
        documents: what it labels; empty: the tiny corpus.
    """
    documents = list(documents) or tiny.documents()
    given = copy.deepcopy(documents)
    annotator = build()
    law = "an annotator says what its labels are about and where they come from, each in a line"
    for name in (annotator.aspect, annotator.version):
        require(isinstance(name, str) and bool(name.strip()) and "\n" not in name, law, f"it says {name!r}")
    first = list(annotator.annotate(iter(given)))
    require(bool(first), "an annotator labels something", f"none of {len(documents)} documents got a label")
    for labelled in first:
        form = isinstance(labelled, Labelled) and isinstance(labelled.rationale, str)
        require(form, "an annotator gives labelled documents", f"it gave {labelled!r:.80}")
        law = "labels are numbers from 0 to 5"
        require(0 <= labelled.label <= MOST, law, f"{labelled.document.id} got {labelled.label!r}")
    known = {document.id: n for n, document in enumerate(documents)}
    places = [known.get(labelled.document.id, -1) for labelled in first]
    law = "labelled documents come in the order given, each at most once"
    in_order = all(a < b for a, b in itertools.pairwise(places)) and places[0] >= 0
    require(in_order, law, f"their places were {places[:12]}")
    untouched = given == documents and all(x.document == documents[p] for x, p in zip(first, places, strict=True))
    require(untouched, "an annotator leaves its documents as they are", "they were changed")
    again = list(build().annotate(iter(documents)))
    law = "the same document always gets the same label"
    require([x.label for x in again] == [x.label for x in first], law, "a new annotator gave other labels")


def _trained(build: Callable[[], Scorer], texts: Sequence[str], labels: Sequence[float]) -> Scorer:
    scorer = build()
    if scorer.learns:
        for what, act in (("scores", lambda: scorer.score(["x"])), ("a version", lambda: scorer.version)):
            law = "an untrained scorer has no scores and no version, and says so"
            require(_complains(act), law, f"it gave {what}")
        scorer.fit(texts, labels)
    return scorer


def _check_names(scorer: Scorer) -> None:
    law = "a scorer's aspect and version are words"
    for name in (scorer.aspect, scorer.version):
        require(isinstance(name, str) and bool(name) and not set(name) & set(" \n/"), law, f"it says {name!r}")


def _check_saving(scorer: Scorer, scores: Sequence[float], asked: Sequence[str], tolerance: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scorer.save(folder)
        files = [file for file in folder.rglob("*") if file.is_file()]
        for file in files:
            law = "what is saved holds no pickles"
            require(_is_data(file), law, f"{file.name} is none of {', '.join(SAVED_AS)}, or not what it is called")
        with _no_network():
            loaded = type(scorer).load(folder)
            law = "a loaded scorer is the one that was saved, without network"
            _same(scores, _scores(loaded, asked), tolerance, law, "after loading")
        require(loaded.version == scorer.version, law, f"version {scorer.version} became {loaded.version}")
        require(loaded.aspect == scorer.aspect, law, f"aspect {scorer.aspect} became {loaded.aspect}")


def _check_learning(
    build: Callable[[], Scorer],
    scorer: Scorer,
    scores: Sequence[float],
    texts: Sequence[str],
    labels: Sequence[float],
    asked: Sequence[str],
    tolerance: float,
) -> None:
    again = _trained(build, texts, labels)
    law = "the same labels make the same scorer"
    _same(scores, _scores(again, asked), tolerance, law, "trained again")
    require(again.version == scorer.version, law, f"version {scorer.version}, then {again.version}")
    other = _trained(build, texts, [MOST - label for label in labels])
    law = "another fit is another version"
    require(other.version != scorer.version, law, f"labels turned round: still {scorer.version}")
    require(_scores(other, asked) != list(scores), "a scorer learns", "labels turned round give the same scores")
    law = "labels that are all on one side are refused"
    require(_complains(lambda: build().fit(texts, [MOST] * len(texts))), law, "they were taken")


def _scores(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    scores = scorer.score(texts)
    law = "a scorer gives a list of one number per text"
    require(isinstance(scores, list) and len(scores) == len(texts), law, f"{len(texts)} texts got {scores!r:.80}")
    return scores


def _same(first: Sequence[float], again: Sequence[float], tolerance: float, law: str, when: str) -> None:
    differences = [abs(a - b) for a, b in zip(first, again, strict=True)]
    worst = max(range(len(differences)), key=differences.__getitem__)
    found = f"text {worst} had {first[worst]!r}, {when} {again[worst]!r}"
    require(differences[worst] <= tolerance, law, found)


def _complains(act: Callable[[], Any]) -> bool:
    try:
        act()
    except UserError:
        return True
    return False


def _is_data(file: Path) -> bool:
    if file.suffix == ".json":
        json.loads(file.read_text())
    if file.suffix == ".safetensors":
        from safetensors.numpy import load_file

        load_file(file)
    if file.suffix == ".npz":
        import numpy as np

        dict(np.load(file, allow_pickle=False))
    return file.suffix in SAVED_AS


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    def refuse(*_: Any) -> None:
        raise LawBroken("law broken: a scorer loads without network; it opened a connection")

    connect = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
