"""Decontamination: of a benchmark's questions pasted into pages, how many are found; of clean documents, how many go.

  python benchmarks/decontamination.py PAGES.jsonl --benchmarks ../shared/data/benchmarks/*.jsonl --clean BOOKS.md ...

PAGES are JSONL with `text` and quote no benchmark. Each question is pasted in seven dresses: as it is, recased,
repunctuated, cut to 60 % of its characters, broken by a page's end, among HTML's tags, and recased, repunctuated and
cut; amid the words of a page, and (after the slash) as a paragraph of its own. A benchmark of more than --most
questions is sampled.
CLEAN are further files that quote none, cut into documents of 3,000 characters.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from random import Random

from phi3kit.corpus.decontamination import Benchmarks


def repunctuated(text: str, random: Random) -> str:
    """The same letters with other signs and white space between the words."""
    signs = [" ", ", ", " - ", "\n", "… ", "  ", ".", "*"]
    return "".join(piece + random.choice(signs) for piece in re.split(r"[\W_]+", text))


def cut(text: str) -> str:
    """The first 60 % of the characters."""
    return text[: round(0.6 * len(text))]


def broken(text: str, random: Random) -> str:
    """With the end of a page within: a page number and a running head."""
    words = text.split(" ")
    at = random.randrange(1, len(words)) if len(words) > 1 else 1
    head = random.choice(["\n\n{}\n\n", "\n\n{} A HISTORY OF LAMPS AND LIGHTHOUSES\n\n", "\n\nChapter {}\n\n"])
    return " ".join(words[:at]) + head.format(random.randrange(2, 400)) + " ".join(words[at:])


def tagged(text: str, random: Random) -> str:
    """As HTML, with tags between some of the words."""
    tags = [" ", " ", " ", "</b> <b>", " <br/>", '</span> <span class="x">', "&nbsp;"]
    return "<p>" + "".join(piece + random.choice(tags) for piece in text.split(" ")) + "</p>"


DRESSES = {
    "as it is": lambda text, random: text,
    "recased": lambda text, random: text.upper(),
    "repunctuated": repunctuated,
    "60 %": lambda text, random: cut(text),
    "broken": broken,
    "tags": tagged,
    "all": lambda text, random: repunctuated(cut(text).upper(), random),
}


PLACES = {"amid words": "{} {} {}", "alone": "{}\n\n{}\n\n{}"}


def found(index: Benchmarks, pages: list[str], most: int) -> str:
    """A line of the table: how many are too short to be told anywhere, and how many are found in each dress."""
    random = Random(1)
    questions = random.sample(index.questions, min(most, len(index.questions)))
    counts = {name: dict.fromkeys(PLACES, 0) for name in DRESSES}
    for question in questions:
        for name, dress in DRESSES.items():
            page, pasted = random.choice(pages), dress(question.text, random)
            for place, form in PLACES.items():
                counts[name][place] += bool(index.leaks(form.format(page[:200], pasted, page[200:400])))
    cells = ("/".join(f"{100 * n / len(questions):.1f}" for n in places.values()) for places in counts.values())
    return f"{len(index.questions):>9}{len(index.too_short):>10}" + "".join(f"{cell:>13}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--benchmarks", type=Path, nargs="+", required=True)
    parser.add_argument("--clean", type=Path, nargs="*", default=[])
    parser.add_argument("--most", type=int, default=400)
    given = parser.parse_args()
    pages = [json.loads(line)["text"] for file in given.pages for line in file.read_text().splitlines()]
    heads = "".join(f"{name:>13}" for name in DRESSES)
    print(f"{'benchmark':34}{'questions':>9}{'too short':>10}{heads}")
    for file in given.benchmarks:
        print(f"{file.stem:34}{found(Benchmarks.load([file]), pages, given.most)}", flush=True)
    index = Benchmarks.load(given.benchmarks)
    books = [text for file in given.clean for text in [file.read_text()]]
    pages += [text[at : at + 3000] for text in books for at in range(0, len(text), 3000)]
    began = time.process_time()
    dropped = sum(bool(index.leaks(page)) for page in pages)
    rate = sum(map(len, pages)) / 2**20 / (time.process_time() - began)
    print(f"all {len(index.questions)} questions: {dropped} of {len(pages)} clean documents dropped, {rate:.2f} MB/s")


if __name__ == "__main__":
    main()
