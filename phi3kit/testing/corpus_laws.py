"""Laws of what makes a corpus: `Reader`, `Extractor`, `Filter`, `Cleaner`, `Splitter`, `Synthesizer`."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence

from phi3kit.errors import UserError
from phi3kit.families import Cleaner, Extractor, Filter, Reader, Splitter, Synthesizer
from phi3kit.records import Conversation, Document, Preference
from phi3kit.testing import tiny
from phi3kit.testing.law import require

ODD_TEXTS = (
    "",
    " \n\t ",
    "x",
    "word " * 500,
    "the same line\n" * 60,
    "0123456789 " * 40,
    "SHOUTING ALL THE WAY DOWN, LINE AFTER LINE. " * 12,
    "{[(<>)]}" * 60,
    "日本語の文章です。" * 30,
    "• a bullet\n• another\n" * 20,
    "\x00\x01\ufffd\ufffd binary rubbish",
    "import os\n\n\ndef f(x):\n    return os.path.join(x, 'y')\n",
)
UNREADABLE = bytes(range(256)) * 8
LONGEST_REASON = 80  # characters: reports count documents by reason


def check_filter(build: Callable[[], Filter], documents: Sequence[Document] = ()) -> None:
    """Every law of `Filter`: pure, and a rejection gives its reason in one short line.

    Args:
        build: makes the filter.
        documents: texts to judge beside the tiny corpus and a list of odd ones.
    """
    documents = [*documents, *tiny.documents(), *_odd()]
    first, second = build(), build()
    verdicts = [first.reject(copy.deepcopy(document)) for document in documents]
    for document, verdict in zip(documents, verdicts, strict=True):
        law = "a filter says None or its reason, in one short line"
        fits = verdict is None or (
            isinstance(verdict, str) and verdict.strip() and "\n" not in verdict and len(verdict) <= LONGEST_REASON
        )
        require(bool(fits), law, f"{_start(document)} got {verdict!r}")
        judged = copy.deepcopy(document)
        again, other = first.reject(judged), second.reject(copy.deepcopy(document))
        law = "a filter is pure: the same document always gets the same verdict"
        require(again == verdict, law, f"{_start(document)} got {verdict!r}, then {again!r}")
        require(other == verdict, law, f"{_start(document)} got {verdict!r}, from a new filter {other!r}")
        require(judged == document, "a filter leaves the document as it is", f"{_start(document)} was changed")


def check_cleaner(build: Callable[[], Cleaner], documents: Sequence[Document] = ()) -> None:
    """Every law of `Cleaner`: pure; the document keeps its id; what was changed is counted; it travels by pickle.

    Args:
        build: makes the cleaner.
        documents: texts to clean beside the tiny corpus and a list of odd ones.
    """
    documents = [*documents, *tiny.documents(), *_odd()]
    first = build()
    travelled = pickle.loads(pickle.dumps(first))
    for document in documents:
        given = copy.deepcopy(document)
        made = first.clean(given)
        law = "a cleaner leaves the document it is given as it is"
        require(given == document, law, f"{_start(document)} was changed")
        same = (made.id, made.source) == (document.id, document.source)
        require(same, "a cleaner keeps id and source", f"{_start(document)} became {made.id!r} of {made.source!r}")
        law = "a cleaner is pure: the same document is always cleaned the same way"
        require(first.clean(given) == made, law, f"{_start(document)} differs the second time")
        require(travelled.clean(given) == made, law, f"{_start(document)} differs after pickling")
        counts = made.metadata.get("cleaned", {})
        if made.text == document.text:
            law = "a document that is not changed comes back equal"
            require(made == document, law, f"{_start(document)} came back with {made.metadata!r:.80}")
        else:
            law = "what a cleaner changes it counts in metadata"
            fits = isinstance(counts, dict) and sum(counts.values()) > 0
            require(fits, law, f"{_start(document)} was changed, counts are {counts!r:.80}")


def check_splitter(build: Callable[[], Splitter], texts: Sequence[str] = ()) -> None:
    """Every law of `Splitter`: pure, words stand in the text in their order, it has a name and travels by pickle.

    Args:
        build: makes the splitter.
        texts: to split beside the tiny corpus and a list of odd ones.
    """
    splitter = build()
    travelled = pickle.loads(pickle.dumps(splitter))
    name = splitter.name
    require(bool(name.strip()) and "\n" not in name, "a splitter has a name of one line", f"it is called {name!r}")
    require(travelled.name == name, "a splitter keeps its name", f"{name!r} became {travelled.name!r}")
    for text in [*texts, *(document.text for document in tiny.documents()), *ODD_TEXTS]:
        words, again, other = splitter.split(text), splitter.split(text), travelled.split(text)
        law = "a splitter is pure: the same text always has the same words"
        require(words == again == other, law, f"{text[:30]!r} differs the second time")
        end = 0
        for word in words:
            law = "a word is not empty and has no white space in it"
            require(bool(word) and not any(map(str.isspace, word)), law, f"{text[:30]!r} has the word {word!r}")
            at = text.find(word, end)
            require(at >= 0, "words stand in the text, in order", f"{word!r} is not in {text[end : end + 40]!r}")
            end = at + len(word)


def check_reader(build: Callable[[], Reader], bad: tuple[Callable[[], Reader], str] | None = None) -> None:
    """Every law of `Reader`: each document once, in one order, under one id; a bad file is named.

    Args:
        build: makes a reader of at least one document.
        bad: makes a reader that meets a bad file, and the name that its error, or what it lists, must contain.
    """
    reader = build()
    first, again, other = list(reader.read()), list(reader.read()), list(build().read())
    require(bool(first), "a reader of something reads something", "it gave no document")
    for document in first:
        form = isinstance(document, Document) and bool(document.id) and isinstance(document.text, str)
        require(form, "a reader gives documents with an id", f"it gave {document!r:.80}")
    ids = [document.id for document in first]
    twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
    require(not twice, "every document comes once, under its own id", f"{twice[:3]} came more than once")
    law = "a reader always gives the same documents in the same order"
    require(again == first, law, f"{len(first)} documents, read again {_first_difference(first, again)}")
    require(other == first, law, f"{len(first)} documents, by a new reader {_first_difference(first, other)}")
    if bad is not None:
        from phi3kit.corpus.row_documents import UNREADABLE as WHY

        build_bad, name = bad
        documents: list[Document] = []
        said = _complaint(lambda: documents.extend(build_bad().read()))
        listed = [str(document.metadata[WHY]) for document in documents if WHY in document.metadata]
        told = [said] if said is not None else listed
        require(any(name in line for line in told), "a bad file is named", f"{name!r} is not in {told}")


def check_extractor(build: Callable[[], Extractor], content: bytes, name: str = "page.txt") -> None:
    """Every law of `Extractor`: text comes out, the same each time; an unreadable file is named.

    Args:
        build: makes the extractor.
        content: a file it can read, with some text in it.
        name: what the file is called.
    """
    text = build().extract(content, name)
    require(isinstance(text, str) and bool(text.strip()), "an extractor gives text", f"it gave {text!r:.80}")
    again = build().extract(content, name)
    require(again == text, "an extractor is deterministic", f"{text!r:.60} became {again!r:.60}")
    said = _complaint(lambda: build().extract(UNREADABLE, "unreadable.bin"))
    law = "an unreadable file is named"  # or read: some extractors read any bytes
    require(said is None or "unreadable.bin" in said, law, f"its error says {said!r}")


def check_synthesizer(build: Callable[[], Synthesizer], documents: Sequence[Document] = ()) -> None:
    """Every law of `Synthesizer`: it makes records, always the same ones, and leaves its documents alone.

    Args:
        build: makes the synthesizer.
        documents: what it makes something of; empty: the tiny corpus.
    """
    documents = list(documents) or tiny.documents()
    given = copy.deepcopy(documents)
    first, again = list(build().make(iter(given))), list(build().make(iter(documents)))
    require(bool(first), "a synthesizer makes something", f"nothing out of {len(documents)} documents")
    strange = [made for made in first if not isinstance(made, Document | Conversation | Preference)]
    law = "a synthesizer makes documents, conversations or preferences"
    require(not strange, law, f"it made {strange[:1]!r:.80}")
    law = "the same documents in the same order give the same results"
    require(again == first, law, f"{len(first)} made, the second time {_first_difference(first, again)}")
    require(given == documents, "a synthesizer leaves its documents as they are", "they were changed")
    ids = [made.id for made in first if made.id]
    require(len(ids) == len(set(ids)), "what is made has ids of its own", f"{len(ids) - len(set(ids))} repeat")


def _odd() -> list[Document]:
    return [Document(id=f"odd/{i}", text=text, source="odd") for i, text in enumerate(ODD_TEXTS)]


def _start(document: Document) -> str:
    return f"{document.id} ({document.text[:30]!r})"


def _first_difference(first: Sequence[object], again: Sequence[object]) -> str:
    for i, (one, two) in enumerate(zip(first, again, strict=False)):
        if one != two:
            return f"number {i} differs: {one!r:.60} and {two!r:.60}"
    return f"{len(again)}"


def _complaint(act: Callable[[], object]) -> str | None:
    try:
        act()
    except UserError as error:
        return str(error)
    return None
