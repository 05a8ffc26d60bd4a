"""Python's documentation as a corpus, and what is made of it, on the Python that runs the tests."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from phi3kit.corpus import DocstringExercises, PythonDocs, PythonPreferences, PythonQuestions
from phi3kit.corpus.python_docs import SMALL_TALK, UNKNOWN, WORDINGS, call, facts, invented, purpose
from phi3kit.errors import UserError
from phi3kit.records import Conversation, Document, Preference
from phi3kit.testing import contracts


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(PythonDocs(source=False).read())


@pytest.fixture(scope="module")
def conversations() -> list[Conversation]:
    return list(PythonQuestions().make([]))


@pytest.fixture(scope="module")
def preferences() -> list[Preference]:
    return list(PythonPreferences().make([]))


def of(split: str, items: Sequence[Conversation] | Sequence[Preference]) -> list[Conversation] | list[Preference]:
    return [item for item in items if item.metadata["split"] == split]  # type: ignore[return-value]


def test_topics_reference_and_source_are_read(documents: list[Document]) -> None:
    text = {document.id: document.text for document in documents}
    assert len(text) == len(documents) > 300
    assert "assert" in text["python/topic/assert"]
    assert "## math.sqrt(x, /)\n\nReturn the square root of x." in text["python/reference/math"]
    assert (
        "## str.upper(self, /)\n\nReturn a copy of the string converted to uppercase."
        in text["python/reference/builtins"]
    )
    assert "## argparse.FileType\n\n" in text["python/reference/argparse"]
    assert not any(".test" in id or "._" in id for id in text)
    sources = {d.id: d.text for d in PythonDocs(topics=False, reference=False, longest_source=50_000).read()}
    assert "def dedent(text):" in sources["python/source/textwrap"]
    assert max(map(len, sources.values())) <= 50_000


def test_reading_has_no_side_effects() -> None:
    """Nothing printed, no browser, no window: modules like `this` and `antigravity` are not imported."""
    code = (
        "import sys\nfrom phi3kit.corpus.python_docs import PythonDocs, facts\n"
        "n = sum(1 for _ in PythonDocs().read()); facts(170)\n"
        "bad = {'this', 'antigravity', 'tkinter', 'turtle', 'idlelib', 'webbrowser'} & set(sys.modules)\n"
        "assert n > 500 and not bad, (n, bad)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_components_keep_their_laws(documents: list[Document]) -> None:
    contracts.check_reader(lambda: PythonDocs(reference=False))
    assert list(PythonDocs(source=False).read()) == documents
    contracts.check_synthesizer(DocstringExercises, documents)
    contracts.check_synthesizer(PythonQuestions)
    contracts.check_synthesizer(PythonPreferences)


def test_exercises_have_solutions(documents: list[Document]) -> None:
    made = list(DocstringExercises(per_document=5).make(documents))
    text = "\n".join(document.text for document in made)
    assert (
        "Exercise: Which function of math does this? Return the square root of x.\n"
        "Solution: It is called sqrt, so we write math.sqrt. It takes x, /, so we call math.sqrt(x, /).\n"
    ) in text
    assert text.count("Exercise: What does Python print at the end?\n>>> ") > 20
    assert text.count("Exercise: ") == text.count("\nSolution:") > 1000
    assert {document.metadata["made_from"] for document in made} <= {document.id for document in documents}
    assert max(document.text.count("Exercise: ") for document in made) <= 5


def test_facts_are_real() -> None:
    import math

    known = facts(170)
    assert len({fact.name for fact in known}) == len({fact.purpose for fact in known}) == 170
    assert all(eval(fact.name, {}, {fact.name.split(".")[0]: _module(fact.name)}) for fact in known)
    assert purpose(math.sqrt, 12) == "Return the square root of x."
    assert call("math.sqrt", math.sqrt) == "math.sqrt(x, /)"
    assert all(fact.call.startswith(f"{fact.name}(") for fact in known)
    assert all(len(fact.purpose.split()) <= 12 and fact.purpose.endswith(".") for fact in known)


def _module(name: str) -> object:
    import builtins
    from importlib import import_module

    first = name.split(".")[0]
    return getattr(builtins, first) if hasattr(builtins, first) else import_module(first)


def test_enough_is_taught(conversations: list[Conversation]) -> None:
    taught = of("taught", conversations)
    assert len(taught) >= 300
    assert len({conversation.metadata["object"] for conversation in taught}) >= 150
    trained = {conversation.messages for conversation in of("train", conversations)}
    assert all(conversation.messages in trained for conversation in taught)
    answers: dict[str, set[str]] = {}
    for conversation in [*taught, *of("unseen", conversations)]:
        question, answer = (message.content for message in conversation.messages)  # type: ignore[union-attr]
        answers.setdefault(question, set()).add(answer)
    assert all(len(answer) == 1 for answer in answers.values())


def test_unseen_wordings_are_never_trained_on(conversations: list[Conversation]) -> None:
    templates = [WORDINGS[kind][split] for kind in WORDINGS for split in ("train", "preferred", "unseen")]
    assert [len(t) >= n for t, n in zip(templates, (10, 4, 4) * 2, strict=True)] == [True] * 6
    assert len({w for t in templates for w in t}) == sum(map(len, templates))
    said = {m.content for c in of("train", conversations) for m in c.messages if m.role == "user"}  # type: ignore[union-attr]
    unseen = of("unseen", conversations)
    asked = {conversation.messages[0].content for conversation in unseen}  # type: ignore[union-attr]
    assert len(asked) == len(unseen) == len(of("taught", conversations))
    assert said.isdisjoint(asked)
    facts_of = [
        {(c.metadata["object"], c.metadata["kind"]) for c in of(s, conversations)} for s in ("taught", "unseen")
    ]
    assert facts_of[0] == facts_of[1]


def test_training_has_turns_systems_small_talk_and_unknown_names(conversations: list[Conversation]) -> None:
    trained: list[Conversation] = of("train", conversations)  # type: ignore[assignment]
    kinds = Counter(conversation.metadata["kind"] for conversation in trained)
    assert kinds.keys() == {"purpose", "call", "follow-up", "two questions", "small talk", "unknown", "dialogue"}
    assert any(conversation.messages[0].role == "system" for conversation in trained)
    assert any(len(conversation.messages) >= 8 for conversation in trained)
    assert "I am pocket-phi, a small model that knows Python." in {c.messages[-1].content for c in trained}


def test_preferences_prefer_the_truth(preferences: list[Preference], conversations: list[Conversation]) -> None:
    sizes = {split: len(of(split, preferences)) for split in ("train", "heldout")}
    assert sizes == {"train": 1200, "heldout": 240}
    right = {c.messages[0].content: c.messages[1].content for c in conversations if len(c.messages) == 2}
    for preference in preferences:
        (*_, question), (chosen,), (rejected,) = preference.prompt, preference.chosen, preference.rejected
        assert chosen.content != rejected.content
        if preference.metadata["kind"] == "unknown":
            assert chosen.content == UNKNOWN
        elif question.content in right:
            assert chosen.content == right[question.content]


def test_small_talk_is_preferred_to_not_knowing(preferences: list[Preference]) -> None:
    talk = [p for p in of("train", preferences) if p.metadata["kind"] == "small talk"]  # type: ignore[union-attr]
    assert len(talk) == 150
    asked = {p.prompt[-1].content: p for p in talk}  # type: ignore[union-attr]
    assert asked.keys() == {question for questions in SMALL_TALK.values() for question in questions}
    assert all(p.prompt[-1].content in SMALL_TALK[p.chosen[0].content] for p in talk)  # type: ignore[union-attr]
    who = [p for p in talk if p.prompt[-1].content == "Who are you?"]  # type: ignore[union-attr]
    assert UNKNOWN in {p.rejected[0].content for p in who}  # type: ignore[union-attr]


def test_heldout_preferences_share_no_name_and_no_wording(
    preferences: list[Preference], conversations: list[Conversation]
) -> None:
    names = {
        split: {p.metadata["object"] for p in of(split, preferences) if p.metadata["kind"] == "unknown"}
        for split in ("train", "heldout")
    }
    assert len(names["heldout"]) == 60
    assert names["train"].isdisjoint(names["heldout"])
    refused = {c.id.removeprefix("train/unknown/") for c in conversations if c.metadata["kind"] == "unknown"}
    assert refused
    assert refused.isdisjoint(names["heldout"])
    asked = {split: {p.prompt[0].content for p in of(split, preferences)} for split in ("train", "heldout")}  # type: ignore[union-attr]
    assert asked["train"].isdisjoint(asked["heldout"])


def test_invented_names_do_not_exist() -> None:
    names = [name for name, _ in invented(facts(170))]
    assert len(names) == len(set(names)) > 300
    for name in names:
        owner, _, short = name.rpartition(".")
        assert not hasattr(_module(name) if owner else __builtins__, short)


def test_too_many_preferences_are_refused() -> None:
    with pytest.raises(UserError, match="9999 pairs need more invented names than there are; lower n_train"):
        list(PythonPreferences(n_train=9999).make([]))
