"""Scripts without spaces: their texts are cut, counted, compared; texts with spaces are split as ever."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from phi3kit.corpus import (
    Alphabet,
    C4Lines,
    C4Quality,
    FineWebWords,
    GopherQuality,
    GopherRepetition,
    GopherWords,
    Length,
    Repetition,
)
from phi3kit.corpus.benchmark_files import Question
from phi3kit.corpus.decontamination import Benchmarks
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.near_duplicates import near_duplicates, write_signatures
from phi3kit.corpus.spaceless import is_spaced, pieces_of, spaced_words
from phi3kit.families import Filter
from phi3kit.records import Document

WORDS = {  # text -> pieces, with the punctuation behind them
    "港口墙上的灯，船只。Hello世界": "港 口 墙 上 的 灯， 船 只。 Hello 世 界",
    "吾輩は猫である。コンピュータ": "吾 輩 は 猫 で あ る。 コンピュータ",
    "ภาษาไทยเป็นภาษา และแม่": "ภา ษา ไทย เป็น ภา ษา และ แม่",
    "ພາສາລາວເປັນພາສາ": "ພາ ສາ ລາວ ເປັນ ພາ ສາ",
    "ភាសាខ្មែរជាភាសា": "ភា សា ខ្មែ រ ជា ភា សា",
    "မြန်မာဘာသာစကားသည်": "မြန် မာ ဘာ သာ စ ကား သည်",
    "“你好”，他说。": "“ 你 好”， 他 说。",
}
THAI = "กำ แม่ น้ำ ภา ษา ไทย เป็น และ ใน ที่ มี ไฟ เรือ ท่า นา ที สอง หมุน หิม ฤดู ร้อน เพราะ สูง ยาว คน มาก"
SENTENCES = {
    "Chinese": (
        [*"港口墙上的灯每分钟转两圈船只数着就知道自己在哪里夏天河水很低因为雪已经融化了春山高路长人多车少早出晚归"],
        "。",
    ),
    "Japanese": ([*"吾輩は猫である名前まだ無いどこで生れたか見当つぬ何も薄暗じめし所泣記憶港灯船山雪春夏秋冬"], "。"),
    "Thai": (THAI.split(), " "),
}


def text_of(language: str, n: int, seed: int = 0, length: int = 20) -> str:
    """A text of n sentences without spaces."""
    some, end = SENTENCES[language]
    draw = Random(seed)
    return "\n".join("".join(draw.choices(some, k=length)) + end for _ in range(n))


@pytest.mark.parametrize(("text", "words"), WORDS.items())
def test_pieces(text: str, words: str) -> None:
    assert spaced_words(text) == GopherWords().split(text) == words.split()
    assert "".join(piece for chunk in text.split() for piece, _ in pieces_of(chunk)) == text.replace(" ", "")
    assert "".join(FineWebWords().split(text)) == text.replace(" ", "")
    assert not is_spaced(text)


@pytest.mark.parametrize(
    "text", ["It's 10km, “quoted”… — naïve café!", "Ελληνικά κείμενο", "हिन्दी में पाठ", "한국어 텍스트", ""]
)
def test_text_with_spaces_is_split_at_them(text: str) -> None:
    assert spaced_words(text) == text.split()
    assert is_spaced(text)


@pytest.mark.parametrize("language", SENTENCES)
def test_filters_count_them(language: str) -> None:
    keep: list[Filter] = [
        Length(), Repetition(), Alphabet(), GopherRepetition(), C4Quality(), GopherQuality(least_stop_words=0),
    ]  # fmt: skip
    long = Document("a", text_of(language, 40))
    if language == "Thai":  # its sentences end in a space
        keep[4] = C4Quality(terminal_punctuation=False, least_sentences=1)
    assert [step.reject(long) for step in keep] == [None] * len(keep)
    assert Length().reject(Document("b", text_of(language, 2))) == "fewer than 50 words"
    assert Length(longest=200).reject(long) == "more than 200 words"
    again = Document("c", text_of(language, 1) + "".join(text_of(language, 1, length=15) * 30).replace("\n", ""))
    assert Repetition().reject(again) is not None
    assert GopherRepetition().reject(again) is not None
    whole = text_of(language, 200).replace("\n", "")  # one line of more than a thousand characters
    assert C4Lines(terminal_punctuation=False).clean(Document("d", whole)).text == whole.strip()


@pytest.mark.parametrize("language", SENTENCES)
def test_near_duplicates_are_found(language: str, tmp_path: Path) -> None:
    texts = [text_of(language, 12, seed) for seed in range(20)]
    copies = [text.replace(text[100:106], text[300:304], 1) for text in texts[:8]]
    write_signatures(tmp_path, [*texts, *copies], MinHash(), web=False)
    found = [(copy.row, copy.of_row) for copy in near_duplicates([tmp_path], MinHash())]
    assert found == [(20 + i, i) for i in range(8)]


@pytest.mark.parametrize("language", SENTENCES)
def test_questions_are_found(language: str) -> None:
    question = text_of(language, 1, seed=99, length=24)
    index = Benchmarks([Question("b", "1", question)])
    page = text_of(language, 5, seed=1)
    assert not index.too_short
    assert index.leaks(f"{page}{question}{page}")
    assert index.leaks(page + question[: len(question) * 7 // 10] + page)
    assert not index.leaks(page)


@pytest.mark.parametrize("name", ["th", "zh"])
def test_real_questions_are_long_enough_to_be_told(shared_data: Path, name: str) -> None:
    file = shared_data / f"multilingual/mgsm/mgsm_{name}.tsv"
    questions = [line.split("\t")[0] for line in file.read_text().splitlines() if line.strip()]
    index = Benchmarks([Question(name, str(i), text) for i, text in enumerate(questions)])
    assert len(index.too_short) <= len(questions) // 50
    assert all(index.leaks(f"一二三{text}四五六") for text in questions[:20])
    assert all(len(spaced_words(text)) > 15 for text in questions)
