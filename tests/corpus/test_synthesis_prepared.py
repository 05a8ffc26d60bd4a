"""Written texts in `prepare`: screened like all others, never in the first phase, the same after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dummy_endpoint import DummyEndpoint, Reply, answer
from killed_synthesis import QUESTION, preparation, write_inputs
from writing_model import seed_in, words_of, write

from phi3kit.corpus import Progress
from phi3kit.corpus.shards import read_columns
from phi3kit.errors import UserError

QUIET = Progress(quiet=True)
TESTS = Path(__file__).parents[1]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_inputs(tmp_path / "in")
    return tmp_path / "in"


def run(inputs: Path, out: Path, reply: Reply = write, workers: int = 1, **query: Any) -> dict[str, Any]:
    with DummyEndpoint(reply) as server:
        return preparation(inputs, server.url, workers, **query).run(out, QUIET)


def ids_of(out: Path, part: str) -> set[str]:
    return set((out / part / "documents.txt").read_text().splitlines())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the one of timings."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if name != "report.json"}


def answers(inputs: Path) -> list[str]:
    return sorted((inputs / "answers.jsonl").read_text().splitlines())


def test_written_texts_are_of_the_second_phase_alone(inputs: Path, tmp_path: Path) -> None:
    manifest = run(inputs, tmp_path / "out")
    web, reasoning = (ids_of(tmp_path / "out", part) for part in ("web", "reasoning"))
    written = {id for id in reasoning if id.startswith("synthetic/")}
    assert len(web) == 40
    assert not any(id.startswith("synthetic/") for id in web)
    assert reasoning - written < web
    assert len(reasoning - written) == 16
    assert len(written) == 20 + 16 == manifest["exercises"]
    assert manifest["synthesis"] == {"made": 36, "refused": {}, "rejected": {}}
    assert sum(manifest["chat"].values()) == 6 * 3


def flawed(prompt: str, _: int) -> tuple[int, Any]:
    """Writes a web page again, in the same words and in nearly the same, repeats itself, quotes, and is short."""
    seed = seed_in(prompt)
    page = f"{words_of('page 3')}. " + "lamp " * 3
    wrong = {
        "topic 1": page, "topic 2": page.replace(" ", " pebble ", 1), "topic 3": f"{words_of('x')} {QUESTION}",
        "topic 4": words_of("twice"), "topic 5": words_of("twice").replace(" ", "\n\n"),
        "topic 6": words_of("twice", 48), "topic 7": "Short.", "topic 8": f"{words_of('topic 8')} lamp lamp",
    }  # fmt: skip
    if seed.startswith("topic") and prompt.startswith("Write one section"):
        return 200, answer(wrong[seed]) if seed in wrong else write(prompt)[1]
    return write(prompt)


def test_written_texts_are_scored_deduplicated_and_decontaminated(inputs: Path, tmp_path: Path) -> None:
    manifest = run(inputs, tmp_path / "out", flawed)
    assert manifest["synthesis"] == {
        "made": 35,
        "refused": {"under 20 words": 1},
        "rejected": {
            "duplicate: same text as a document before it": 2,
            "near-duplicate: nearly the same text as a document before it": 2,
            "contaminated: bench": 1,
        },
    }
    assert manifest["exercises"] == 30
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert "not made: 1 × under 20 words" in report["headline"]
    page = (tmp_path / "out/page.html").read_text()
    assert "35 were made for the last phase, 30 of them kept" in page
    assert "<td>not made</td><td>under 20 words</td>" in page
    assert manifest["kept"] == 40, "what a page is repeated by does not throw the page out"
    rejected = [json.loads(row) for row in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert sum(row["id"].startswith("synthetic/") for row in rejected) == 5
    made = next(file for file in (tmp_path / "out.stages").glob("scored-*/00000/documents.parquet") if _is_made(file))
    scores = {row["id"]: row["lamp"] for row in read_columns(made, ["id", "lamp"])}
    assert sorted(scores.values())[-2:] == [0.0, 2.0]
    aspects = {"synthetic_least": {"lamp": 1}}
    run(inputs, tmp_path / "strict", flawed, **aspects)
    assert {id for id in ids_of(tmp_path / "strict", "reasoning") if id.startswith("synthetic/")} == {
        id for id, score in scores.items() if score == 2
    }


def _is_made(file: Path) -> bool:
    return all(row["id"].startswith("synthetic/") for row in read_columns(file, ["id"]))


def test_what_contradicts_the_phases_is_told(inputs: Path) -> None:
    with pytest.raises(UserError, match="which is not scored"):
        preparation(inputs, "http://localhost:1", synthetic_least={"charm": 1})


def test_killed_amid_the_writing_and_run_again(inputs: Path, tmp_path: Path) -> None:
    """Nothing that was answered is asked again; the result is the same to the byte."""
    run(inputs, tmp_path / "undisturbed")
    undisturbed = answers(inputs)
    (inputs / "answers.jsonl").unlink()
    with DummyEndpoint(write, seconds=0.05) as server:
        command = [sys.executable, str(TESTS / "killed_synthesis.py"), str(inputs), str(tmp_path / "out"), server.url]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(TESTS)})
        deadline = time.monotonic() + 120
        while len(server.prompts) < 30:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -9
    kept = answers(inputs)
    assert 20 < len(kept) < len(undisturbed)
    with DummyEndpoint(write) as server:
        preparation(inputs, server.url, workers=2).run(tmp_path / "out", QUIET)
        asked = len(server.prompts)
    whole = [line for line in kept if line.endswith("}")]
    assert asked == len(undisturbed) - len(whole)
    assert answers(inputs) == undisturbed
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_finished_preparation_asks_nothing(inputs: Path, tmp_path: Path) -> None:
    first = run(inputs, tmp_path / "out")
    again = run(inputs, tmp_path / "out", lambda prompt, before: (500, "asked"))
    assert again == first
