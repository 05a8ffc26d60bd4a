"""datatrove's InferenceRunner moves the requests: in order, so many at a time, and nothing is left out unheard."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from datatrove.pipeline.inference.run_inference import InferenceRunner

from phi3kit.corpus.annotators.endpoint import Reply
from phi3kit.corpus.synthesis.asked import Asked
from phi3kit.corpus.synthesis.runner import CUT_OFF, Generate, run_all
from phi3kit.errors import UserError


class Echo:
    """Says what it was asked, later items sooner, and counts how many ask at the same time."""

    model = "echo"

    def __init__(self, wrong: dict[str, Exception] | None = None) -> None:
        self.asked: list[str] = []
        self.wrong, self.now, self.most, self.lock = wrong or {}, 0, 0, threading.Lock()

    def send(self, body: dict[str, Any]) -> Reply:
        text = body["text"]
        with self.lock:
            self.asked.append(text)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02 if text.endswith("0") else 0.005)
        with self.lock:
            self.now -= 1
        if text in self.wrong:
            raise self.wrong[text]
        return Reply(text.upper(), not text.endswith("7"))


async def thrice(item: int, generate: Generate) -> list[str]:
    """One question, and two more at once that need its answer."""
    first = await generate({"text": f"a{item}"})
    if first.finish_reason == CUT_OFF:
        return ["cut off"]
    rest = await asyncio.gather(*(generate({"text": f"{first.text}-{n}"}) for n in (1, 2)))
    return [first.text, *(answer.text for answer in rest)]


def test_what_came_of_items_is_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    send = InferenceRunner._send_request

    async def counted(self: InferenceRunner, server: Any, payload: dict[str, Any], semaphore: Any) -> Any:
        moved.append(payload["text"])
        return await send(self, server, payload, semaphore)

    monkeypatch.setattr(InferenceRunner, "_send_request", counted)
    echo = Echo()
    made = run_all(thrice, range(30), "echo", echo, concurrency=4)
    assert made == [["cut off"] if n % 10 == 7 else [f"A{n}", f"A{n}-1", f"A{n}-2"] for n in range(30)]
    assert sorted(moved) == sorted(echo.asked), "no request goes past the runner"
    assert len(moved) == 3 + 27 * 3
    assert 1 < echo.most <= 4
    assert run_all(thrice, [], "echo", echo, concurrency=4) == []


@pytest.mark.parametrize("error", [UserError("the endpoint refuses"), ZeroDivisionError("a bug"), OSError("no disk")])
def test_what_goes_wrong_is_raised_as_it_is(error: Exception) -> None:
    """In the sender, or in the work itself; the runner alone would wrap it, or go on trying for minutes."""
    if not isinstance(error, OSError):  # `Endpoint` retries by itself, and raises none
        with pytest.raises(type(error), match=str(error)):
            run_all(thrice, range(9), "echo", Echo({"A4-2": error}), concurrency=2)

    async def fails(item: int, generate: Generate) -> int:
        if item == 4:
            raise error
        return item

    with pytest.raises(type(error), match=str(error)):
        run_all(fails, range(9), "echo", Echo(), concurrency=2)


def test_every_node_of_a_job_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """datatrove's own servers leave all requests to the first, and let the others wait."""
    monkeypatch.setenv("DATATROVE_NODE_RANK", "1")
    assert run_all(thrice, [1], "echo", Echo(), concurrency=2) == [["A1", "A1-1", "A1-2"]]


def test_what_is_being_answered_when_another_fails_is_kept(tmp_path: Path) -> None:
    echo = Echo({"a1": UserError("refused")})
    with pytest.raises(UserError, match="refused"):
        run_all(thrice, range(9), "echo", Asked(echo, tmp_path / "answers.jsonl"), concurrency=2)  # type: ignore
    assert "a0" in echo.asked
    again = Echo()
    run_all(thrice, range(9), "echo", Asked(again, tmp_path / "answers.jsonl"), concurrency=2)  # type: ignore
    assert len(again.asked) == 8 * 3 + 1 - len(set(echo.asked) - {"a1"})
    assert not set(again.asked) & (set(echo.asked) - {"a1"}), "nothing that was answered is asked again"
