"""Scorers: what they find in real texts, that they are the same everywhere, and what they refuse."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import scorer_examples

from phi3kit.corpus import JSONLines
from phi3kit.corpus.filters.reasoning import Reasoning
from phi3kit.corpus.scorers import (
    HashedNGrams,
    NotTrainedOn,
    ReasoningDensity,
    SavedScorer,
    Seen,
    TriviaDensity,
    features,
    load_scorer,
    quality,
    save_scorer,
)
from phi3kit.corpus.scorers.reasoning_density import count_connectives
from phi3kit.errors import UserError
from phi3kit.families import Scorer
from phi3kit.records import Document
from phi3kit.testing import tiny
from phi3kit.testing.corpus_laws import ODD_TEXTS

GOOD = "The proof follows because every even number is a sum of two equal numbers, so that halving it works. " * 3
BAD = "Buy now! Best deals on shoes, free shipping, click here to subscribe to our newsletter today. " * 3


def trained(positive: float = 3.0) -> HashedNGrams:
    scorer = HashedNGrams(positive=positive)
    scorer.fit([GOOD + word for word in "abcdef"] + [BAD + word for word in "abcdef"], [5.0] * 6 + [0.0] * 6)
    return scorer


def scores_elsewhere(scorer: Scorer, texts: list[str]) -> list[float]:
    return scorer.score(texts)


def test_words_of_ascii_are_those_of_the_expression() -> None:
    odd = [*tiny.TEXTS, *ODD_TEXTS, string.printable, "snake_case x2y 3.14 don't\tA\x1cB", ""]
    for text in odd:
        if text.isascii():
            wanted = [word.encode() for word in features.WORD.findall(text.lower())]
            assert features.words(text) == wanted
    words = [word.decode() for word in features.words("“Don’t” — naïve 東京x")]
    assert words == ["don", "t", "naïve", "東", "京", "x"]


def test_pairs_do_not_cross_texts() -> None:
    alone = [features.entries([text]) for text in ("red green", "blue")]
    both = features.entries(["red green", "blue"])
    assert both.column_E.tolist() == [c for found in alone for c in found.column_E.tolist()]
    assert both.row_E.tolist() == [0, 0, 0, 1]
    assert features.entries(["green red"]).column_E.tolist() != alone[0].column_E.tolist()
    assert np.bincount(both.row_E, both.value_E**2) == pytest.approx([1, 1])


def test_it_learns_and_a_text_without_words_has_nothing() -> None:
    scorer = trained()
    high, low, nothing, spaces = scorer.score(["because a sum is equal", "free shipping deals", "", " …\n"])
    assert high > 0.6 > 0.4 > low > nothing == spaces == 0.0


def test_scores_are_the_same_in_a_new_process() -> None:
    scorer = trained()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(scores_elsewhere, (scorer, [*tiny.TEXTS, GOOD])) == scorer.score([*tiny.TEXTS, GOOD])


def test_labels_on_one_side_are_refused() -> None:
    with pytest.raises(UserError, match=r"all 2 labels \(1\) are below 3, .*labels of 0 and 1\? set .* `largest: 1`"):
        HashedNGrams().fit(["a", "b"], [1, 1])
    with pytest.raises(UserError, match=r"all 3 labels \(3 to 5\) are at or above 3"):
        HashedNGrams().fit(["a", "b", "c"], [3, 4, 5])
    with pytest.raises(UserError, match="there are no labels to learn from"):
        HashedNGrams().fit([], [])
    with pytest.raises(UserError, match="HashedNGrams is not trained; train it with `phi3kit score fit`"):
        HashedNGrams().score(["a"])


def test_auc_on_the_labelled_pages(shared_data: Path) -> None:
    """The issue's bound: AUC of 0.93 or more by 5-fold on the unanimous labels; not by length alone."""
    labels = shared_data / "web/quality_labels/dclm_agreement_data.jsonl"
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    texts, wanted = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    fold_N = quality.folds(wanted, 5, seed=0)
    areas, scores = [], np.empty(len(rows))
    for fold in range(5):
        scorer, held = HashedNGrams(), np.flatnonzero(fold_N == fold)
        inside = np.flatnonzero(fold_N != fold)
        scorer.fit([texts[i] for i in inside], (wanted[inside] * 5.0).tolist())
        scores[held] = scorer.score([texts[i] for i in held])
        areas.append(quality.auc(scores[held], wanted[held]))
    assert np.mean(areas) >= 0.93
    assert quality.auc_at_equal_length(scores, wanted, [len(text) for text in texts]) > 0.85
    assert quality.brier(scores, wanted) < 0.12


def test_connectives_are_those_the_filter_counts() -> None:
    """The filter's verdicts, which the pocket recipe relies on, do not change with the counting."""
    signs = re.compile(
        r"\b(because|therefore|thus|hence|since|so that|if|then|else|unless|whether|when|otherwise|instead|although"
        r"|however|example|for instance|e\.g|i\.e|means?|returns?|raises?|equal|must|should|given|suppose|note)\b|>>>",
        re.IGNORECASE,
    )
    odd = [*tiny.TEXTS, *ODD_TEXTS, GOOD, "If, IF; e.g. >>> f(x)\nSO THAT note_book if2 naïve given", "i.e.e.g i.e"]
    for text in odd:
        assert count_connectives(text) == len(signs.findall(text)), text
    text = "because it must be so " * 20
    assert Reasoning(least_signs=100 * 40 / 100).reject(Document("x", text)) is None
    assert Reasoning(least_signs=100 * 40 / 100 + 0.1).reject(Document("x", text)) == "explains too little"


def test_reasoning_and_trivia_tell_real_texts_apart(shared_data: Path) -> None:
    def lines(name: str, n: int) -> list[dict[str, str]]:
        return [json.loads(line) for line in (shared_data / name).read_text().split("\n")[:n]]

    def apart(scorer: Scorer, high: list[str], low: list[str]) -> float:
        return quality.auc(scorer.score(high + low), [True] * len(high) + [False] * len(low))

    web = [row["text"] for row in lines("web/c4_demo.jsonl", 200)]
    problems = [f"{row['question']}\n{row['answer']}" for row in lines("reasoning/gsm8k_train.jsonl", 200)]
    book = (shared_data / "edu/darwin_origin_of_species.md").read_text()
    chapters = [book[i : i + 4000] for i in range(0, len(book), 20_000)]
    facts = (shared_data / "pretrain_small/wiki_demo.txt").read_text()
    articles = [facts[i : i + 3000] for i in range(0, len(facts), 10_000)]
    assert apart(ReasoningDensity(), problems, web) > 0.98
    assert apart(ReasoningDensity(), chapters, web) > 0.8
    assert apart(TriviaDensity(), articles, chapters) > 0.9
    assert apart(TriviaDensity(), articles, web) > 0.65


def test_densities_count_what_they_say() -> None:
    reasoning, trivia = ReasoningDensity(), TriviaDensity()
    plain = "The lamp on the wall turns twice a minute and ships count the turns as they pass. " * 8
    for more in ("Step 1: divide.\n", "x = 3 + 4\n", "because\n", "def f(x):\n    return x\n"):
        assert reasoning.score([f"{plain}\n{more}"])[0] > reasoning.score([plain])[0], more
    for more in ("on 3 May 1998", "in 1998", "won 3–1", "by Marie Curie"):
        assert trivia.score([f"{plain}\n{more}"])[0] > trivia.score([plain])[0], more
    assert reasoning.score(["", " \n"]) == trivia.score(["", " \n"]) == [0.0, 0.0]
    assert reasoning.score(["= 1 " * 500])[0] < 100, "one kind of sign counts only so far"


def test_a_folder_keeps_the_scorer_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    scorer = trained()
    save_scorer(scorer, tmp_path / "edu", {"threshold": 0.25})
    saved = SavedScorer(str(tmp_path / "edu"))
    assert (saved.version, saved.aspect, saved.threshold) == (scorer.version, "educational", 0.25)
    assert saved.score([GOOD, BAD]) == scorer.score([GOOD, BAD])
    with pytest.raises(UserError, match=r"is trained already; name a class to train"):
        saved.fit([GOOD, BAD], [5, 0])
    save_scorer(saved, tmp_path / "copy")
    assert load_scorer(tmp_path / "copy").version == scorer.version
    with pytest.raises(UserError, match="holds no scorer: No such file"):
        SavedScorer(str(tmp_path / "nowhere"))
    other = trained()
    other.fit([GOOD, BAD], [0, 5])
    other.save(tmp_path / "edu")
    with pytest.raises(UserError, match=rf"is version {other.version}, but about.json says {scorer.version}"):
        load_scorer(tmp_path / "edu")
    (tmp_path / "copy/weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match=r"weights.safetensors is not readable as safetensors"):
        load_scorer(tmp_path / "copy")
    about = json.loads((tmp_path / "edu/about.json").read_text())
    (tmp_path / "edu/about.json").write_text(json.dumps(about | {"scorer": "HashedNGram"}))
    with pytest.raises(UserError, match=r"no Scorer is called 'HashedNGram'; did you mean 'HashedNGrams'\?"):
        load_scorer(tmp_path / "edu")
    (tmp_path / "edu/about.json").write_text("{")
    with pytest.raises(UserError, match=r"about.json is damaged"):
        load_scorer(tmp_path / "edu")


def test_every_option_weight_and_rule_is_in_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained()
    assert trained().version == first.version
    assert trained(positive=4.0).version != first.version
    other = HashedNGrams(aspect="reasoning")
    other.fit([GOOD, BAD], [5, 0])
    assert other.version != first.version
    before = first.version
    monkeypatch.setattr(features, "RULES", "other words")
    assert trained().version != before, "the same weights mean something else where words are split otherwise"
    assert ReasoningDensity().version != ReasoningDensity(aspect="steps").version


def test_documents_that_trained_it_are_known_again(tmp_path: Path) -> None:
    documents = tiny.documents()
    seen = Seen.of(documents[:2])
    save_scorer(trained(), tmp_path / "edu")
    seen.save(tmp_path / "edu")
    again = Seen.load(tmp_path / "edu")
    assert [document in again for document in documents[:4]] == [True, True, False, False]
    assert Document("other/id", f"  {documents[0].text}\n") in again, "by its text"
    assert Document(documents[1].id, "other text") in again, "by its id"
    filter = NotTrainedOn(str(tmp_path / "edu"))
    assert [filter.reject(document) for document in documents[1:3]] == ["trained the scorer", None]
    Seen.of(documents[:3]).save(tmp_path / "edu")
    assert NotTrainedOn(str(tmp_path / "edu")).version != filter.version, "stages that depend on it run again"
    (tmp_path / "edu/trained_on.safetensors").unlink()
    assert len(Seen.load(tmp_path / "edu")) == 0


def test_readers_and_scorers_meet(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in (GOOD, BAD)))
    documents = list(JSONLines(str(tmp_path / "a.jsonl")).read())
    good, bad = SavedScorer(shutil.copytree(scorer_examples.saved_scorer(), tmp_path / "s")).score(
        [document.text for document in documents]
    )
    assert 0 < good < 1
    assert 0 < bad < 1
