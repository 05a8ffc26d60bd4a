"""A corpus every machine already has: Python's own documentation, and what can be asked about it.

One reader (pydoc's topics, docstrings, the standard library's source) and three synthesizers (exercises,
questions, preferences). They are ordinary components; nothing else in phi3kit knows of Python's documentation.
Only the modules of `LIVE`, which have no side effects, are imported; the rest is read with `ast`.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, final

from phi3kit.errors import UserError
from phi3kit.families import Reader, Synthesizer
from phi3kit.records import Conversation, Document, Message, Preference

# Modules to look into by importing them, those a newcomer meets first in front.
LIVE = (  # noqa: SIM905 (readable as words)
    "builtins math statistics random itertools functools collections heapq bisect os.path copy shutil re operator "
    "textwrap secrets string json time calendar fnmatch glob base64 html urllib.parse pprint tempfile csv struct "
    "cmath zlib binascii keyword contextlib types uuid queue unicodedata difflib hashlib sys array"
).split()
TYPES = (str, list, dict, set, int, float, tuple)  # builtins whose methods count as well
NOT_PYTHON = ("copyright", "credits", "exit", "help", "license", "quit")  # put into builtins by `site`
SKIPPED_FOLDERS = ("test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data", "site-packages")


# ------------------------------------------------------------------------------------------------ documents


@final
class PythonDocs(Reader):
    """The documentation that comes with the running Python.

    Args:
        topics: read pydoc's topics (what ``help('assert')`` shows).
        reference: read the docstrings of every public module of the standard library.
        source: read the standard library's source files.
        longest_source: leave out source files of more characters than this.
    """

    def __init__(
        self, topics: bool = True, reference: bool = True, source: bool = True, longest_source: int = 100_000
    ) -> None:
        self.topics, self.reference, self.source = topics, reference, source
        self.longest_source = longest_source

    def read(self) -> Iterator[Document]:
        """Topics, then the reference, then the source, each in the order of names."""
        files = _source_files() if self.reference or self.source else {}
        if self.topics:
            yield from _topics()
        if self.reference:
            for module in sorted({*files, *LIVE}):
                text = _live_reference(module) if module in LIVE else _read_reference(module, files[module])
                yield Document(f"python/reference/{module}", text, "docstrings", {"module": module})
        if self.source:
            for module, file in files.items():
                text = _read_source(file)
                if len(text) <= self.longest_source:
                    yield Document(f"python/source/{module}", text, "standard library source", {"module": module})


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        yield Document(f"python/topic/{name}", text, "pydoc topics", {"topic": name})


def _source_files() -> dict[str, Path]:
    """Public modules of the standard library that have source, by name, in order."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    found = {}
    for file in folder.rglob("*.py"):
        parts = file.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        public = all(part.isidentifier() and not part.startswith("_") for part in parts)
        if parts and public and not set(parts) & set(SKIPPED_FOLDERS):
            found[".".join(parts)] = file
    if not found:
        raise UserError(f"this Python keeps no source of its standard library in {folder}; use another one")
    return dict(sorted(found.items()))


def _read_source(file: Path) -> str:
    with tokenize.open(file) as stream:  # minds the file's own encoding
        return stream.read()


def _read_reference(module: str, file: Path) -> str:
    """A module's docstrings, from its source, without importing it."""
    tree = ast.parse(_read_source(file))
    parts = [f"# {module}", ast.get_docstring(tree) or "", *_entries(module, tree.body)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _entries(owner: str, body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name[0] == "_":
            continue
        name, doc = f"{owner}.{node.name}", ast.get_docstring(node)
        if doc:
            call = name if isinstance(node, ast.ClassDef) else f"{name}({ast.unparse(node.args)})"
            yield f"## {call}\n\n{doc}"
        if isinstance(node, ast.ClassDef):
            yield from _entries(name, node.body)


def _live_reference(module: str) -> str:
    """A module's docstrings, from its objects."""
    entries = [f"## {call(name, obj) or name}\n\n{inspect.getdoc(obj)}" for name, obj in members(module)]
    parts = [f"# {module}", inspect.getdoc(import_module(module)) or "", *entries]
    return "\n\n".join(part for part in parts if part) + "\n"


# -------------------------------------------------------------------------------------------------- objects


class Fact(NamedTuple):
    """What is taught about one object."""

    name: str  # math.sqrt
    purpose: str  # Return the square root of x.
    call: str  # math.sqrt(x, /)


def members(module: str) -> Iterator[tuple[str, Any]]:
    """Public functions, classes and methods of a live module that have a docstring, by name, in order."""
    content = import_module(module)
    names = getattr(content, "__all__", None) or vars(content)
    prefix = "" if module == "builtins" else f"{module}."
    found = [(f"{prefix}{name}", getattr(content, name, None)) for name in sorted(set(names))]
    if module == "builtins":
        found = [(name, obj) for name, obj in found if name not in NOT_PYTHON]
        found += [(f"{t.__name__}.{name}", getattr(t, name)) for t in TYPES for name in sorted(vars(t))]
    for name, obj in found:
        is_exception = isinstance(obj, type) and issubclass(obj, BaseException)
        is_public = not name.rpartition(".")[2].startswith("_")
        if is_public and callable(obj) and not is_exception and isinstance(inspect.getdoc(obj), str):
            yield name, obj


def call(name: str, obj: Any) -> str | None:
    """``math.sqrt(x, /)``, if Python knows the parameters and they read well."""
    try:
        text = f"{name}{inspect.signature(obj)}"
    except (ValueError, TypeError):
        return None
    return None if "<" in text or ":" in text or "->" in text else text


def purpose(obj: Any, longest: int) -> str | None:
    """The docstring's first sentence, if it is a plain one of three to `longest` words."""
    for paragraph in (inspect.getdoc(obj) or "").split("\n\n")[:2]:
        text = " ".join(paragraph.split())
        if re.match(r"[\w.]+\(", text):  # a signature; the sentence comes after it
            continue
        sentence = re.split(r"(?<=[\w)])\.(?= |$)", text)[0]
        plain = re.fullmatch(r"[A-Z][A-Za-z0-9 ,'/()-]+", sentence) is not None
        fits = 3 <= len(sentence.split()) <= longest and sentence.count("(") == sentence.count(")")
        return f"{sentence}." if plain and fits else None
    return None


@cache
def facts(n_objects: int, longest_purpose: int = 12, longest_call: int = 48) -> tuple[Fact, ...]:
    """The first objects of `LIVE` whose purpose and call are short, plain, and no other object's.

    Args:
        n_objects: how many to return at most.
        longest_purpose: in words.
        longest_call: in characters.
    """
    known = [
        Fact(name, sentence, signature)
        for module in LIVE
        for name, obj in members(module)
        if (sentence := purpose(obj, longest_purpose))
        and (signature := call(name, obj))
        and len(signature) <= longest_call
    ]
    first_of = {fact.purpose: fact.name for fact in reversed(known)}
    return tuple(islice((fact for fact in known if first_of[fact.purpose] == fact.name), n_objects))


# ------------------------------------------------------------------------------------------------ exercises


@final
class DocstringExercises(Synthesizer):
    """Exercises with solutions, made from the reference pages it is given.

    Args:
        per_document: exercises per document made.
    """

    def __init__(self, per_document: int = 12) -> None:
        self.per_document = per_document

    def make(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Documents of exercises, for each page with entries (``## math.sqrt(x, /)`` and a docstring)."""
        for document in documents:
            exercises = list(_exercises(document.text))
            for number, start in enumerate(range(0, len(exercises), self.per_document)):
                text = "\n".join(exercises[start : start + self.per_document])
                metadata = {"made_from": document.id}
                yield Document(f"exercises/{document.id}/{number}", text, "exercises", metadata)


def _exercises(text: str) -> Iterator[str]:
    for entry in text.split("\n\n## ")[1:]:
        heading, _, body = entry.partition("\n\n")
        name, bracket, parameters = heading.partition("(")
        module, _, short = name.rpartition(".")
        sentence = re.split(r"(?<=[\w)])\.(?=\s|$)", " ".join(body.split("\n\n")[0].split()))[0].rstrip(".")
        if bracket and 3 <= len(sentence.split()) <= 30:
            place = f"of {module}" if module else "built into Python"
            given = parameters.removesuffix(")") or "nothing"
            yield (
                f"Exercise: Which function {place} does this? {sentence}.\n"
                f"Solution: It is called {short}, so we write {name}. It takes {given}, so we call {heading}.\n"
            )
        yield from filter(None, map(_worked_example, body.split("\n\n")))


def _worked_example(paragraph: str) -> str | None:
    """A doctest, if it begins the paragraph and its last statement prints something."""
    lines = inspect.cleandoc(paragraph).splitlines()
    if not lines or not lines[0].startswith(">>> "):
        return None
    last = max(n for n, line in enumerate(lines) if line.startswith((">>>", "...")))
    asked, printed = "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])
    return f"Exercise: What does Python print at the end?\n{asked}\nSolution:\n{printed}\n" if printed else None


# ------------------------------------------------------------------------------------------------ questions

# Wordings of the two kinds of question: for SFT, for preferences, and never trained on.
WORDINGS = {
    "purpose": {
        "train": (
            "What does {0} do?",
            "What is {0} for?",
            "Explain {0}.",
            "Describe {0} briefly.",
            "Tell me about {0}.",
            "What is the purpose of {0}?",
            "What does the function {0} do?",
            "Please explain what {0} does.",
            "I found {0} in some code. What does it do?",
            "Why would I use {0}?",
            "In one sentence, what is {0}?",
            "Could you describe what {0} is for?",
            "What is {0}?",
            "Give me a summary of {0}.",
            "Give a one-line explanation of {0}.",
            "Can you explain {0} to me?",
            "Can you describe {0}?",
            "I have never used {0}. What is it for?",
            "I do not know {0}. What does it do?",
            "Which task does {0} solve?",
            "What can {0} do for me?",
            "What is a short description of {0}?",
            "When do I need {0}?",
            "Tell me what {0} does.",
        ),
        "preferred": (
            "Summarize {0}.",
            "What happens when I use {0}?",
            "Remind me what {0} does.",
            "Is there a short explanation of {0}?",
            "What is {0} good for?",
        ),
        "unseen": (
            "Can you tell me what {0} does?",
            "Give me a short description of {0}.",
            "What would I use {0} for?",
            "Please describe the purpose of {0}.",
            "I do not understand {0}. Explain it.",
        ),
    },
    "call": {
        "train": (
            "How do I call {0}?",
            "What is the signature of {0}?",
            "Which arguments does {0} take?",
            "What are the parameters of {0}?",
            "Show me how to call {0}.",
            "Show me the signature of {0}.",
            "How is {0} called?",
            "List the parameters of {0}.",
            "What arguments can I pass to {0}?",
            "I want to call {0}. How?",
            "Write the signature of {0}.",
            "Please tell me the arguments of {0}.",
            "Give me the call of {0}.",
            "Can you tell me how to call {0}?",
            "Can you list the arguments of {0}?",
            "Which parameters does {0} take?",
            "What parameters does {0} accept?",
            "Write down how to call {0}.",
            "Show how {0} is called.",
            "What does a call of {0} look like?",
            "I do not remember the arguments of {0}. What are they?",
            "Tell me the parameters of {0}.",
            "Tell me the signature of {0}.",
            "What do I write to call {0}?",
        ),
        "preferred": (
            "Remind me how {0} is called.",
            "What goes between the parentheses of {0}?",
            "How do I write a call of {0}?",
            "Spell out the call of {0}.",
            "Name the parameters of {0}.",
        ),
        "unseen": (
            "Can you show me how {0} is called?",
            "Which parameters does {0} have?",
            "Give me the signature of {0}.",
            "What do I pass to {0} when I call it?",
            "Tell me how to call {0}.",
        ),
    },
}
FOLLOW_UPS = {
    "purpose": ("And what does it do?", "What is it for?"),
    "call": ("How do I call it?", "And its signature?"),
}
SYSTEMS = ("You are a helpful assistant.", "Answer questions about Python.", "Be brief.")
SMALL_TALK = {
    "I am pocket-phi, a small model that knows Python.": (
        "Who are you?",
        "What are you?",
        "What is your name?",
        "Are you a person?",
        "Introduce yourself.",
    ),
    "Hello! Ask me about Python.": ("Hello", "Hi", "Hello!", "Hi there!", "Good morning."),
    "You are welcome.": ("Thank you.", "Thanks!", "Thanks a lot.", "Thank you very much."),
    "I only know Python.": (
        "What is the weather like?",
        "Who won the game?",
        "What is the capital of France?",
        "Tell me a joke.",
        "How old is the universe?",
        "Write a poem.",
    ),
}


TALK_EVERY = 8  # of so many training pairs one is small talk
UNKNOWN = "I do not know that name."  # what to say about a name that does not exist


def _ask(kind: str, split: str, fact: Fact, number: int) -> str:
    """A question in wording `number` of its kind, counted round."""
    wordings = WORDINGS[kind][split]
    return wordings[number % len(wordings)].format(fact.name)


def _answer(kind: str, fact: Fact) -> str:
    return fact.purpose if kind == "purpose" else fact.call


def _chat(id: str, *turns: str, system: str | None = None, **metadata: Any) -> Conversation:
    """A conversation: user and assistant in turns."""
    messages = [Message("user" if i % 2 == 0 else "assistant", turn) for i, turn in enumerate(turns)]
    first = [Message("system", system)] if system else []
    return Conversation((*first, *messages), id, metadata)


@final
class PythonQuestions(Synthesizer):
    """Questions about Python's functions and classes, with answers from their real signatures and docstrings.

    Each object is asked two things: what it does and how it is called. The documents it is given do not matter.
    Splits (``metadata["split"]``): "train" holds every question in every training wording, follow-up turns,
    system messages, small talk and a few names that do not exist; "taught" every question once, in a training
    wording; "unseen" the same questions in wordings that training never shows.

    Args:
        n_objects: how many functions and classes to teach.
        n_unknown: how many invented names to refuse.
        n_dialogues: how many conversations of several turns to train on.
    """

    def __init__(self, n_objects: int = 170, n_unknown: int = 16, n_dialogues: int = 400) -> None:
        self.n_objects, self.n_unknown, self.n_dialogues = n_objects, n_unknown, n_dialogues

    def make(self, documents: Iterable[Document]) -> Iterator[Conversation]:
        """All conversations, split by split."""
        known = facts(self.n_objects)
        for number, fact in enumerate(known):
            yield from _lessons(fact, number, known[(number * 7 + 3) % len(known)])
        yield from _small_talk()
        for number, (name, _) in enumerate(islice(invented(known), self.n_unknown)):
            kind = ("purpose", "call")[number % 2]
            question = _ask(kind, "train", Fact(name, "", ""), number)
            yield _chat(f"train/unknown/{name}", question, UNKNOWN, split="train", kind="unknown")
        names = [name for name, _ in islice(invented(known), self.n_unknown)]
        for number in range(self.n_dialogues):
            turns = list(_dialogue(Random(number), known, names))
            yield _chat(f"train/dialogue/{number}", *turns, split="train", kind="dialogue")
        for split, wordings in (("taught", "train"), ("unseen", "unseen")):
            for number, fact in enumerate(known):
                for kind in WORDINGS:
                    question, answer = _ask(kind, wordings, fact, number), _answer(kind, fact)
                    id = f"{split}/{fact.name}/{kind}"
                    yield _chat(id, question, answer, split=split, kind=kind, object=fact.name)


def _lessons(fact: Fact, number: int, other: Fact) -> Iterator[Conversation]:
    """Training conversations about one object; `other` is asked about after it."""
    about = {"split": "train", "object": fact.name}
    for kind, wordings in WORDINGS.items():
        for n in range(len(wordings["train"])):
            question, answer = _ask(kind, "train", fact, n), _answer(kind, fact)
            system = SYSTEMS[number % len(SYSTEMS)] if n == (number + 5) % len(wordings["train"]) else None
            yield _chat(f"train/{fact.name}/{kind}/{n}", question, answer, system=system, kind=kind, **about)
    for kind, then in (("purpose", "call"), ("call", "purpose")):
        follow_up = FOLLOW_UPS[then][number % len(FOLLOW_UPS[then])]
        turns = [_ask(kind, "train", fact, number), _answer(kind, fact), follow_up, _answer(then, fact)]
        yield _chat(f"train/{fact.name}/{kind}/{then}", *turns, kind="follow-up", **about)
        turns[2:] = _ask(then, "train", other, number), _answer(then, other)
        yield _chat(f"train/{fact.name}/{kind}/{other.name}", *turns, kind="two questions", **about)


def _dialogue(draw: Random, known: Sequence[Fact], names: Sequence[str]) -> Iterator[str]:
    """Questions and answers by turns: small talk, what is taught, follow-ups, and now and then an unknown name."""
    for _ in range(draw.randint(2, 5)):
        subject, kind, wording = draw.random(), draw.choice(tuple(WORDINGS)), draw.randrange(24)
        if subject < 0.35:
            answer = draw.choice(tuple(SMALL_TALK))
            yield from (draw.choice(SMALL_TALK[answer]), answer)
        elif subject < 0.38 and names:
            yield from (_ask(kind, "train", Fact(draw.choice(names), "", ""), wording), UNKNOWN)
        else:
            fact = draw.choice(known)
            yield from (_ask(kind, "train", fact, wording), _answer(kind, fact))
            if subject > 0.7:
                then = "call" if kind == "purpose" else "purpose"
                yield from (draw.choice(FOLLOW_UPS[then]), _answer(then, fact))


def _small_talk() -> Iterator[Conversation]:
    for answer, questions in SMALL_TALK.items():
        for question in questions:
            yield _chat(f"train/talk/{question}", question, answer, split="train", kind="small talk")


# ---------------------------------------------------------------------------------------------- preferences


def invented(known: Sequence[Fact]) -> Iterator[tuple[str, Fact]]:
    """Names that do not exist, each with the real object it resembles; by turns misplaced and misspelt."""
    owners = cycle(sorted({fact.name.rpartition(".")[0] for fact in known} - {""}))
    spellings = cycle(("{0}_all", "{0}x", "new_{0}", "{0}ify", "{0}_of", "re{0}"))
    seen: set[str] = set()
    for round_ in range(4):
        for number, fact in enumerate(known):
            owner, _, short = fact.name.rpartition(".")
            if (number + round_) % 2:
                owner = next(owners)
            else:
                short = next(spellings).format(short)
            name = f"{owner}.{short}" if owner else short
            if name not in seen and not hasattr(_owner(owner), short):
                seen.add(name)
                yield name, fact


def _owner(name: str) -> Any:
    """The module or builtin class of this name."""
    return getattr(builtins, name) if name in {t.__name__ for t in TYPES} else import_module(name or "builtins")


@final
class PythonPreferences(Synthesizer):
    """Pairs that prefer what is true. Of four, three are about something that was taught: the right answer
    against the other thing known of the object, against its neighbour's answer, or against "I do not know";
    the fourth is about a name that does not exist: to say so, against the answer for the name it resembles.
    Every eighth training pair is small talk after a question instead, so that "I do not know" stays with names.
    The documents it is given do not matter.

    Splits (``metadata["split"]``): "train" asks in wordings that SFT did not show; "heldout" has other invented
    names and the unseen wordings.

    Args:
        n_train: pairs to train on.
        n_heldout: pairs to measure with.
        n_objects: as in PythonQuestions: what is known.
        n_unknown: as in PythonQuestions: invented names left to it.
    """

    def __init__(self, n_train: int = 1200, n_heldout: int = 240, n_objects: int = 170, n_unknown: int = 16) -> None:
        self.n_train, self.n_heldout = n_train, n_heldout
        self.n_objects, self.n_unknown = n_objects, n_unknown

    def make(self, documents: Iterable[Document]) -> Iterator[Preference]:
        """Pairs about real and invented names, by turns."""
        known = facts(self.n_objects)
        strange = islice(invented(known), self.n_unknown, None)
        for split, n in (("train", self.n_train), ("heldout", self.n_heldout)):
            wordings = "preferred" if split == "train" else "unseen"
            for number in range(n):
                if split == "train" and number % TALK_EVERY == TALK_EVERY - 1:
                    yield _talk_pair(number // TALK_EVERY, known)
                    continue
                if number % 4:
                    kind, fact, chosen, rejected = _taught_pair(number - number // 4 - 1, known)
                else:
                    name, resembled = next(strange, (None, known[0]))
                    if name is None:
                        raise UserError(f"{n} pairs need more invented names than there are; lower n_{split}")
                    kind, fact = ("purpose", "call")[number // 4 % 2], Fact(name, "", "")
                    chosen, rejected = UNKNOWN, _answer(kind, resembled)
                yield Preference(
                    (Message("user", _ask(kind, wordings, fact, number // 4)),),
                    (Message("assistant", chosen),),
                    (Message("assistant", rejected),),
                    f"{split}/{number}/{fact.name}",
                    {"split": split, "kind": kind if number % 4 else "unknown", "object": fact.name},
                )


def _talk_pair(number: int, known: Sequence[Fact]) -> Preference:
    """Small talk after a question that was answered, against "I do not know" and against other small talk by turns."""
    asked = [(question, answer) for answer, questions in SMALL_TALK.items() for question in questions]
    round_, place = divmod(number, len(asked))
    question, chosen = asked[place]
    others = [answer for answer in SMALL_TALK if answer != chosen]
    rejected = others[number % len(others)] if (round_ + place) % 2 else UNKNOWN
    fact, kind = known[number * 7 % len(known)], tuple(WORDINGS)[number % 3 % 2]
    before = Message("user", _ask(kind, "train", fact, number)), Message("assistant", _answer(kind, fact))
    return Preference(
        (*before, Message("user", question)),
        (Message("assistant", chosen),),
        (Message("assistant", rejected),),
        f"train/talk/{number}",
        {"split": "train", "kind": "small talk"},
    )


def _taught_pair(number: int, known: Sequence[Fact]) -> tuple[str, Fact, str, str]:
    """(kind, object, right answer, wrong answer), walking through all objects and kinds with different wrongs."""
    walk = number * 7 % (2 * len(known))
    place, kind, other = walk // 2, *(("purpose", "call"), ("call", "purpose"))[walk % 2]
    fact = known[place]
    wrongs = (_answer(other, fact), _answer(kind, known[place - 1]), UNKNOWN)
    return kind, fact, _answer(kind, fact), wrongs[number % 3]
