"""Decontamination: pasted questions are found in any dress, clean pages stay, wording is told from questions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from phi3kit import UserError
from phi3kit.corpus.benchmark_files import Question, asked, read_questions
from phi3kit.corpus.decontamination import Benchmarks, hits_of
from phi3kit.corpus.evidence import letters
from phi3kit.records import Conversation, Message, Preference

QUESTIONS = [
    "Why does the lamp on the harbour wall turn exactly twice a minute when ships are near?",
    "Which metal did the Romans put between the stones of the aqueduct at Segovia, if any?",
    "Could the moon fit inside the Black Sea?",
    "A baker sells 48 loaves in April and half as many in May. How many loaves did the baker sell altogether?",
]
PAGE = "Welcome to my page about the coast. {} Come back soon, there will be more pictures in spring."


@pytest.fixture(scope="module")
def index() -> Benchmarks:
    return Benchmarks(Question("lamps", str(i), text) for i, text in enumerate(QUESTIONS))


def repunctuated(text: str, random: Random) -> str:
    """Other punctuation and white space between the same letters."""
    pieces = re.split(r"[\W_]+", text)
    return "".join(piece + random.choice([" ", ", ", " - ", "\n", "… ", "  ", ".", "*"]) for piece in pieces)


def cut(text: str) -> str:
    return text[: round(0.6 * len(text))]


DRESSES: dict[str, Callable[[str, Random], str]] = {
    "as it is": lambda text, random: text,
    "upper case": lambda text, random: text.upper(),
    "title case": lambda text, random: text.title(),
    "without punctuation": lambda text, random: re.sub(r"[^\w\s]", "", text),
    "repunctuated": repunctuated,
    "without spaces": lambda text, random: re.sub(r"\s", "", text),
    "cut to 60 %": lambda text, random: cut(text),
    "cut, recased, repunctuated": lambda text, random: repunctuated(cut(text).upper(), random),
}


@pytest.mark.parametrize("dress", DRESSES)
def test_a_pasted_question_is_found(index: Benchmarks, dress: str) -> None:
    for i, question in enumerate(QUESTIONS):
        pasted = DRESSES[dress](question, Random(i))
        (hit,) = index.leaks(PAGE.format(pasted))
        assert (hit.benchmark, hit.question, hit.kind) == ("lamps", str(i), "question")
        assert letters(question).startswith(letters(hit.matched))
        assert len(letters(hit.matched)) >= len(letters(pasted))
        assert hit.share == pytest.approx(len(letters(hit.matched)) / len(letters(question)))


def test_the_matched_text_is_a_piece_of_the_page(index: Benchmarks) -> None:
    page = PAGE.format("“WHY does the lamp—on the harbour wall—turn exactly twice a minute?”")
    (hit,) = index.hits(page)
    assert hit.matched == "WHY does the lamp—on the harbour wall—turn exactly twice a minute"
    assert hit.matched in page


def test_the_end_of_a_question_is_found(index: Benchmarks) -> None:
    page = PAGE.format("the lamp on the harbour wall turn exactly twice a minute when ships are near")
    assert [hit.question for hit in index.leaks(page)] == ["0"]


def test_less_than_a_question_is_a_phrase(index: Benchmarks) -> None:
    (hit,) = index.hits(PAGE.format("In spring the lamp on the harbour wall, turn exactly twice a day."))
    assert (hit.kind, hit.matched) == ("phrase", "the lamp on the harbour wall, turn exactly twice a")
    assert index.leaks(PAGE.format("the lamp on the harbour wall turn")) == []
    assert index.hits(PAGE.format("Nothing of the kind.")) == []
    assert index.hits("") == index.hits("short") == []


SHORT = ["How to make a blanket fort?", "What reflects the light?", "Pay the mortgage early."]


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("I read on.\n\nhow to make a blan\n\nNo more.", ["0"]),  # a line of its own
        ("I read on. How to; make a BLAN... No more.", ["0"]),  # a sentence
        ("how to make a", []),  # under 12 letters
        ("What reflects", ["1"]),
        ("I know how to make a blanket of it", []),  # amid words
        ("I know how to make a blan next to it", ["0"]),  # cut off amid a word
        ("I know how to make a blan keeps going", ["0"]),  # the same, though k is what follows in the question
        ("I know how to make a blan-keeper", []),
        ("and so what reflect the lakes", []),  # another form of the word
        ("I asked what reflects th and got none", ["1"]),
        ("to pay the mortga here", ["2"]),
        ("Pay the mortgage", ["2"]),
        ("to pay the mortgage here", []),
    ],
)
def test_a_short_question_is_told_by_where_it_stands(page: str, found: list[str]) -> None:
    index = Benchmarks(Question("short", str(i), text) for i, text in enumerate(SHORT))
    assert [hit.question for hit in index.leaks(page)] == found


def test_numbers_tell_questions_apart(index: Benchmarks) -> None:
    """Another baker with other numbers is no leak of this one."""
    page = PAGE.format("A baker sells 96 loaves in June and twice as many in July. What does the baker earn?")
    assert index.leaks(page) == []


def test_wording_of_many_questions_is_no_leak() -> None:
    things = [f"{a}{b}" for a in ("gran", "bel", "tor", "fim", "quas") for b in ("dule", "mark", "ix", "oon", "pell")]
    questions = [f"Which of the elements listed reacts fastest with the {t} in this glass of mine?" for t in things]
    index = Benchmarks(Question("elements", str(i), text) for i, text in enumerate(questions))
    page = PAGE.format("I asked which of the elements listed reacts fastest, and got no answer.")
    (hit,) = index.hits(page)
    assert (hit.kind, hit.benchmark) == ("template", "elements")
    assert hit.matched == "which of the elements listed reacts fastest"
    leak, *_ = index.leaks(PAGE.format(questions[7]))
    assert leak.question == "7"


def test_what_anybody_might_write_is_reported_not_dropped() -> None:
    texts = ["dresser", "make a grilled cheese", "?", "What is a prime number?"]
    index = Benchmarks(Question("b", str(i), text) for i, text in enumerate(texts, start=1))
    assert [q.id for q in index.too_short] == ["1", "2"]
    page = PAGE.format("Take it out of the dresser and make a grilled cheese.")
    assert [(hit.question, hit.kind, hit.matched) for hit in index.hits(page)] == [
        ("2", "phrase", "make a grilled cheese")
    ]
    assert [hit.question for hit in index.leaks(PAGE.format("what is a PRIME, number"))] == ["4"]
    assert index.hits(PAGE.format("Make a grilled fish.")) == Benchmarks([]).hits(PAGE) == []


def test_formulas_are_compared_sign_by_sign() -> None:
    texts = ["25-759=", "((-1 + 2 + 9 * 5) - (-2 + -4 + -4 * -7)) =", "2+2="]
    index = Benchmarks(Question("sums", str(i), text) for i, text in enumerate(texts, start=1))
    assert [q.id for q in index.too_short] == ["3"]
    for page, found in {
        "so 25 - 759 = -734": ["1"], "so 125-759=-634": [], "25759": [], "25+759=": [], "2+2=4": [],
        "( (-1+2 + 9*5) - (-2 +": ["2"], "((-1 + 2 + 9 * 6)": [], "25 − 759 =": ["1"], "[{-1+2 + 9×5] – (-2 +": ["2"],
    }.items():  # fmt: skip
        assert [hit.question for hit in index.leaks(page)] == found, page


def test_texts_in_other_scripts() -> None:
    chinese = "罗杰有五个网球。他又买了两罐网球。每罐有三个网球。他现在有多少个网球？请一步一步地回答。"
    german = "Das Café schließt früher: wann genau öffnet es?"
    index = Benchmarks([Question("mgsm", "1", chinese), Question("mgsm", "2", german)])
    assert [h.question for h in index.leaks(f"标题。{chinese.replace('。', ' , ')}完")] == ["1"]
    wide = "ＤＡＳ ＣＡＦÉ ＳＣＨＬＩＥＳＳＴ ＦＲÜＨＥＲ wann genau öffnet es"
    (hit,) = index.leaks(PAGE.format(wide))
    assert hit.question == "2"


def test_chats_and_preferences_are_checked_message_by_message(index: Benchmarks) -> None:
    asked, answered = Message("user", f"Tell me: {QUESTIONS[0]}"), Message("assistant", "I do not know.")
    assert [hit.question for hit in hits_of(Conversation((asked, answered)), index)] == ["0"]
    assert hits_of(Conversation((answered,)), index) == []
    pair = Preference((answered,), (answered,), (Message("assistant", QUESTIONS[1]),))
    assert [hit.question for hit in hits_of(pair, index)] == ["1"]


# ------------------------------------------------------------------------------------------------- files


def test_the_question_of_a_prompt() -> None:
    assert asked("Question: Where is it?\nChoices:\nA. here\nB. there\nAnswer:") == ["Where is it?"]
    assert asked("Passage: The lamp: it turns.\nQuestion: does it\nAnswer:") == ["The lamp: it turns.", "does it"]
    assert asked("Is this true?\nQ: Snakes fly.\nA:") == ["Is this true?", "Snakes fly."]
    assert asked("Plain. A: b stays") == ["Plain. A: b stays"]


def test_files_of_many_schemas(tmp_path: Path) -> None:
    files = {
        "a.jsonl": '{"question": {"stem": "one?"}, "id": "x7"}\n\n{"query": "Q: two?\\nA:"}\n',
        "b.json": '{"examples": [{"input": "three?"}]}',
        "c.json": '["four?"]',
        "d.csv": "id,Question,answer\n9,five?,5\n",
        "e.tsv": "six?\t6\nseven?\t7\n",
        "f.jsonl": '{"task": {"deep": "eight?"}}',
        "g.jsonl": '{"question": "nine", "passage": "About nine."}',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    read = lambda name, *fields: [tuple(q) for q in read_questions(tmp_path / name, fields)]  # noqa: E731
    assert read("a.jsonl") == [("a", "x7", "one?"), ("a", "2", "two?")]
    assert read("b.json") == [("b", "1", "three?")]
    assert read("c.json") == [("c", "1", "four?")]
    assert read("d.csv", "question") == [("d", "9", "five?")]
    assert read("e.tsv") == [("e", "1", "six?"), ("e", "2", "seven?")]
    assert read("f.jsonl", "task", "deep") == [("f", "1", "eight?")]
    assert read("g.jsonl") == [("g", "1", "nine"), ("g", "1", "About nine.")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"queston": "x"}',
            r"a.jsonl, row 1 has no question: none of question, .* in queston; name",
        ),
        ("a.jsonl", '{"question": "x"', r"cannot read the benchmark .*a.jsonl"),
        ("a.jsonl", "", r"a.jsonl holds no questions"),
        ("a.json", '{"version": 1}', r"a.json is an object without rows"),
        ("a.txt", "x", r"a.txt is no benchmark that can be read; give .jsonl, .json, .csv or .tsv"),
        ("none/a.jsonl", None, r"cannot read the benchmark .*none"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        Benchmarks.load([tmp_path / name])


# --------------------------------------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def benchmarks(shared_data: Path) -> Benchmarks:
    return Benchmarks.load(sorted((shared_data / "benchmarks").glob("*.jsonl")))


def rows(path: Path, field: str) -> list[str]:
    return [json.loads(line)[field] for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def clean_pages(shared_data: Path) -> list[str]:
    """1,000 texts that quote no benchmark: 481 web pages, 38 textbook sections, 481 answers people wrote."""
    answers = [text for text in rows(shared_data / "instruct/dolly_hhrlhf_small.jsonl", "response") if len(text) > 150]
    sections = [path.read_text() for path in sorted((shared_data / "edu/openstax_college_physics").glob("*.md"))]
    return [
        *rows(shared_data / "web/c4_demo.jsonl", "text"),
        *rows(shared_data / "web/quality_labels/dclm_agreement_data.jsonl", "text"),
        *sections,
        *answers[:481],
    ]


def test_no_clean_page_is_dropped(benchmarks: Benchmarks, clean_pages: list[str]) -> None:
    assert len(clean_pages) == 1000
    leaks = {i: found for i, page in enumerate(clean_pages) if (found := benchmarks.leaks(page))}
    assert not leaks


def pasted(question: str, page: str, random: Random) -> str:
    at = page.find(" ", random.randrange(len(page)))
    return f"{page[:at]} {question} {page[at:]}"


TOLD_WHEN_CUT = {  # of the questions cut to 60 %, the share that is told amid a page's words, and as a paragraph
    "arc_easy": (0.95, 0.99), "bigbench_misconceptions": (0.97, 0.99), "bigbench_strategy_qa": (0.94, 0.99),
    "boolq_800": (0.95, 0.99), "commonsense_qa": (0.90, 0.99), "copa": (0.78, 0.97), "human_eval": (1.0, 1.0),
    "mmlu_dev_cot": (0.94, 0.96), "piqa": (0.61, 0.74),
}  # fmt: skip
ALONE_WHOLE = {"piqa": 0.87, "mmlu_dev_cot": 0.99}  # whole ones as a paragraph; of all others, all


def alone(question: str, page: str, random: Random) -> str:
    return f"{page[:200]}\n\n{question}\n\n{page[200:]}"


@pytest.mark.parametrize("dress", DRESSES)
def test_real_questions_pasted_into_web_pages_are_found(
    benchmarks: Benchmarks, clean_pages: list[str], dress: str
) -> None:
    """Whole, all but those listed as too short; cut to 60 %, all of 34 letters, and of shorter ones most."""
    random = Random(3)
    questions = random.sample(benchmarks.questions, 200)
    missed: dict[bool, list[Question]] = {False: [], True: []}
    for question in questions:
        text, page = DRESSES[dress](question.text, random), random.choice(clean_pages[:481])
        for apart, paste in ((False, pasted), (True, alone)):
            if not benchmarks.leaks(paste(text, page, random)):
                missed[apart].append(question)
    if "cut" not in dress:
        assert set(missed[False]) | set(missed[True]) <= set(benchmarks.too_short)
    assert not [q for q in missed[False] if "cut" in dress and len(letters(cut(q.text))) >= 34]
    for apart in missed:
        told = sum(TOLD_WHEN_CUT[q.benchmark][apart] if "cut" in dress else 0.98 for q in questions)
        assert len(questions) - len(missed[apart]) > told - 10  # the sample's spread
    assert not [q for q in missed[True] if len(letters(cut(q.text))) >= 13]


@pytest.mark.slow
def test_every_real_question_is_found_as_often_as_said(benchmarks: Benchmarks, clean_pages: list[str]) -> None:
    random = Random(7)
    short = [page[:400] for page in clean_pages[:481]]
    for benchmark, (amid, apart) in TOLD_WHEN_CUT.items():
        questions = [q for q in benchmarks.questions if q.benchmark == benchmark]
        n, too_short = len(questions), sum(q.benchmark == benchmark for q in benchmarks.too_short)
        found = dict.fromkeys([(paste, whole) for paste in (pasted, alone) for whole in (True, False)], 0)
        for question in questions:
            for paste, whole in found:
                text = repunctuated(question.text if whole else cut(question.text), random)
                found[paste, whole] += bool(benchmarks.leaks(paste(text, random.choice(short), random)))
        assert found[pasted, True] >= n - too_short, benchmark
        assert found[pasted, False] >= amid * n, benchmark
        assert found[alone, True] >= ALONE_WHOLE.get(benchmark, 1) * n, benchmark
        assert found[alone, False] >= apart * n, benchmark


def test_gsm8k_pasted_is_all_found(shared_data: Path, clean_pages: list[str]) -> None:
    problems = rows(shared_data / "reasoning/gsm8k_train.jsonl", "question")[:100]
    index = Benchmarks(Question("gsm8k", str(i), text) for i, text in enumerate(problems))
    random = Random(5)
    for dress in DRESSES.values():
        found = [
            str(i) in {hit.question for hit in index.leaks(pasted(dress(text, random), clean_pages[i], random))}
            for i, text in enumerate(problems)
        ]
        assert all(found)
    assert not [page for page in clean_pages[:481] if index.leaks(page)]
