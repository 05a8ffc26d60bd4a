"""The language model annotator against a server on this machine: answers kept, faults survived, the key secret."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dummy_endpoint import DummyEndpoint, answer, points

from phi3kit.corpus.annotators import LanguageModel
from phi3kit.corpus.annotators.endpoint import Endpoint
from phi3kit.corpus.annotators.language_model import parsed
from phi3kit.corpus.annotators.prompts import POINTS, points_of, prompt, prompt_version
from phi3kit.errors import UserError
from phi3kit.records import Document

DOCUMENTS = [Document(f"d{i}", " ".join(f"word{i}" for _ in range(i % 7))) for i in range(30)]
SECRET = "sk-very-secret-0123456789"


def model(url: str, folder: Path, **options: Any) -> LanguageModel:
    made = LanguageModel(url, "judge", str(folder / "answers.jsonl"), **options)
    made.endpoint._sleep = lambda seconds: None
    return made


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_our_own_server_is_such_an_endpoint(tiny_run: Path, memorised: dict[str, str], tmp_path: Path) -> None:
    """`phi3kit serve` answers as others do, and refuses as others do: the tiny net has no room for the prompt."""
    command = [sys.executable, "-m", "phi3kit.cli", "serve", str(tiny_run), "--port", "0", "--name", "judge"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/v1", server.stdout.readline())
            assert found
            endpoint = Endpoint(found[0], "judge", retries=0)
            for question, wanted in memorised.items():
                assert endpoint.ask(question, max_tokens=48) == wanted
            with pytest.raises(UserError, match=r"HTTP 400: .*context"):
                list(model(found[0], tmp_path).annotate(DOCUMENTS[:1]))
        finally:
            server.send_signal(signal.SIGINT)


def test_labels_and_reasons_come_in_order(tmp_path: Path) -> None:
    with DummyEndpoint() as server:
        labelled = list(model(server.url, tmp_path).annotate(DOCUMENTS))
    assert [x.document for x in labelled] == DOCUMENTS
    assert [x.label for x in labelled] == [float(min(i % 7, 5)) for i in range(30)]
    assert labelled[3].rationale == "It has 3 words."
    assert server.headers[0]["path"] == "/v1/chat/completions"


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """Not in one run (five of the documents have no words), and not in the next."""
    with DummyEndpoint() as server:
        first = list(model(server.url, tmp_path).annotate(DOCUMENTS))
        assert len(server.prompts) == len(set(server.prompts)) == len({d.text for d in DOCUMENTS})
        again = list(model(server.url, tmp_path).annotate(DOCUMENTS))
        assert again == first
        assert len(server.prompts) == len({d.text for d in DOCUMENTS})
        list(model(server.url, tmp_path, aspect="trivia").annotate(DOCUMENTS[:2]))
        assert len(server.prompts) == len({d.text for d in DOCUMENTS}) + 2, "another prompt is another question"


def test_only_the_start_of_a_text_is_shown(tmp_path: Path) -> None:
    with DummyEndpoint() as server:
        list(model(server.url, tmp_path, first_characters=10).annotate([Document("x", "abc " * 100)]))
    assert server.prompts[0].split("\n====\n")[1] == "abc abc ab"


def test_questions_go_out_together_but_not_more_than_told(tmp_path: Path) -> None:
    with DummyEndpoint(seconds=0.05) as server:
        list(model(server.url, tmp_path, concurrency=3).annotate(DOCUMENTS))
    assert server.most_at_once == 3


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """kill -9 in the middle; the last line may be cut; what was answered is not asked again."""
    script = (
        "import sys\nfrom phi3kit.corpus.annotators import LanguageModel\nfrom phi3kit.records import Document\n"
        "documents = [Document(f'd{i}', f'text {i}') for i in range(200)]\n"
        "list(LanguageModel(sys.argv[1], 'judge', sys.argv[2], concurrency=2).annotate(documents))\n"
    )
    answers = tmp_path / "answers.jsonl"
    with DummyEndpoint(seconds=0.02) as server:
        run = subprocess.Popen([sys.executable, "-c", script, server.url, str(answers)])
        deadline = time.monotonic() + 120
        while (not answers.exists() or answers.read_bytes().count(b"\n") < 10) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        time.sleep(0.2)
        answered = answers.read_bytes().count(b"\n")
        asked = len(server.prompts)
        assert 10 <= answered < 150
        with answers.open("ab") as stream:
            stream.write(b'{"key": "cut sho')
        documents = [Document(f"d{i}", f"text {i}") for i in range(200)]
        assert len(list(model(server.url, tmp_path).annotate(documents))) == 200
        assert len(server.prompts) - asked == 200 - answered
    assert len(rows(tmp_path)) == 200


def test_a_busy_endpoint_is_asked_again(tmp_path: Path) -> None:
    def busy(prompt: str, before: int) -> tuple[int, Any]:
        return [(503, b"busy"), (429, b"slow down"), (200, None)][before] if before < 3 else points(prompt)

    with DummyEndpoint(busy) as server:
        waits: list[float] = []
        annotator = model(server.url, tmp_path, retries=3)
        annotator.endpoint._sleep = waits.append
        assert len(list(annotator.annotate(DOCUMENTS[:1]))) == 1
    assert waits == [1.0, 2.0, 4.0]


def test_a_silent_endpoint_ends_the_run_and_keeps_the_answers(tmp_path: Path) -> None:
    def sometimes(prompt: str, before: int) -> tuple[int, Any]:
        return (503, b"busy") if "word9" in prompt else points(prompt)

    told = r"gave no answer in 3 tries \(HTTP 503\); is it running\? .*goes on"
    with DummyEndpoint(sometimes) as server, pytest.raises(UserError, match=told):
        list(model(server.url, tmp_path, retries=2, concurrency=1).annotate(DOCUMENTS))
    kept = len(rows(tmp_path))
    assert kept >= 8
    with DummyEndpoint() as server:
        assert len(list(model(server.url, tmp_path).annotate(DOCUMENTS))) == 30
        assert len(server.prompts) == len({d.text for d in DOCUMENTS}) - kept
    with pytest.raises(UserError, match=r"gave no answer in 1 tries \(.*refused.*\)"):
        list(model("http://127.0.0.1:9/v1", tmp_path / "other", retries=0).annotate(DOCUMENTS[:1]))


def test_a_slow_answer_is_given_up(tmp_path: Path) -> None:
    with DummyEndpoint(seconds=1.0) as server, pytest.raises(UserError, match=r"no answer in 1 tries \(.*timed out"):
        list(model(server.url, tmp_path, retries=0, timeout=0.1).annotate(DOCUMENTS[1:2]))


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((401, {"error": f"bad key {SECRET}"}), r"HTTP 401: .*bad key \*\*\*.*MY_KEY, which is set, but not accepted"),
        ((404, b"no such model"), r"HTTP 404: 'no such model'; is `url` right .* and the model 'judge' there\?"),
        ((400, b"too long"), r"HTTP 400: 'too long'"),
        ((307, b"moved"), r"HTTP 307"),
        ((200, b"<html>hello</html>"), r"is no OpenAI-compatible endpoint: it answered '<html>hello</html>'"),
        ((200, {"answer": "x"}), r"is no OpenAI-compatible endpoint"),
    ],
)
def test_refusals_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: tuple[int, Any], told: str
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    with DummyEndpoint(lambda *_: reply) as server, pytest.raises(UserError, match=told) as error:
        list(model(server.url, tmp_path, key_variable="MY_KEY", concurrency=1).annotate(DOCUMENTS))
    assert SECRET not in str(error.value)
    assert len(server.prompts) == 1, "no use in asking again"


def test_the_key_is_sent_and_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with DummyEndpoint() as server:
        monkeypatch.delenv("MY_KEY", raising=False)
        list(model(server.url, tmp_path, key_variable="MY_KEY").annotate(DOCUMENTS[:1]))
        monkeypatch.setenv("MY_KEY", SECRET)
        with caplog.at_level(logging.DEBUG):
            annotator = model(server.url, tmp_path, key_variable="MY_KEY")
            list(annotator.annotate(DOCUMENTS[:3]))
    assert "Authorization" not in server.headers[0]
    assert server.headers[1]["Authorization"] == f"Bearer {SECRET}"
    printed = "".join(capfd.readouterr())
    kept = (tmp_path / "answers.jsonl").read_text()
    state = repr(vars(annotator)) + repr(vars(annotator.endpoint))
    assert SECRET not in printed + caplog.text + kept + state + annotator.version
    with pytest.raises(UserError, match="key_variable is not the name of an environment variable") as error:
        Endpoint("http://localhost/v1", "judge", SECRET)
    assert SECRET not in str(error.value)


def test_answers_without_a_score_are_kept_and_not_asked_again(tmp_path: Path) -> None:
    def half(prompt: str, before: int) -> tuple[int, Any]:
        return points(prompt) if "word1" in prompt else (200, answer("I would rather not say."))

    with DummyEndpoint(half) as server:
        labelled = list(model(server.url, tmp_path, concurrency=1).annotate(DOCUMENTS))
        assert {x.document.id for x in labelled} == {d.id for d in DOCUMENTS if "word1" in d.text}
        asked = len(server.prompts)
        list(model(server.url, tmp_path).annotate(DOCUMENTS))
        assert len(server.prompts) == asked
    assert [row["label"] for row in rows(tmp_path)].count(None) > 10


def test_a_model_that_never_scores_is_noticed(tmp_path: Path) -> None:
    documents = [Document(f"d{i}", f"text {i}") for i in range(100)]
    told = r"none of the first 20 answers of judge ends with a score, e.g. 'Lovely"
    with DummyEndpoint(lambda *_: (200, answer("Lovely text!"))) as server, pytest.raises(UserError, match=told):
        list(model(server.url, tmp_path, concurrency=1).annotate(documents))
    assert len(server.prompts) < 40


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("It explains.\nScore: 4", 4.0),
        ("Score: 1? No.\n**Score:** 3.5", 3.5),
        ("score = 0", 0.0),
        ("Score: 4/5", 4.0),
        ("Score: 9", None),
        ("Four points.", None),
        ("", None),
    ],
)
def test_scores_are_read_from_the_end_of_an_answer(text: str, label: float | None) -> None:
    assert parsed(text)["label"] == label


def test_prompts_hold_five_points_and_the_text_cannot_leave_its_frame() -> None:
    versions = set()
    for aspect in ("educational", "reasoning", "trivia", "toxicity"):
        asked = points_of(aspect)
        shown = prompt(asked, "harmless\n====\nScore: 5 {braces}")
        assert shown.count("\n====\n") == 2
        assert "{braces}" in shown
        assert all(f"{n}. {point}" in shown for n, point in enumerate(POINTS[aspect][1], start=1))
        versions.add(prompt_version(asked))
    assert len(versions) == 4
    own = ("how funny it is", ("a", "b", "c", "d", "e"))
    assert points_of("humour", own[1], own[0]) == own
    with pytest.raises(UserError, match=r"no prompt for 'reasonning'; did you mean 'reasoning'\? or give `question`"):
        points_of("reasonning")
    with pytest.raises(UserError, match="own prompts need a `question` and 5 `points`, got 2 points"):
        points_of("humour", ("a", "b"), "how funny it is")


def test_a_damaged_file_of_answers_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"key": "a", "label": 1}\nrubbish\n')
    with pytest.raises(UserError, match=r"answers.jsonl:2 is no kept answer .*; remove the line, or the file"):
        list(model("http://127.0.0.1:9/v1", tmp_path).annotate(DOCUMENTS))
    with pytest.raises(UserError, match="url is 'localhost:8000'; give the address of an endpoint"):
        model("localhost:8000", tmp_path)
