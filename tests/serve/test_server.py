"""The server around the answers: pages of browsers, names, failures, clients that leave. Its engine is a script."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from contextlib import asynccontextmanager

import pytest
import torch
from aiohttp import ClientSession, ClientTimeout, web

from phi3kit import UserError
from phi3kit.model.engine import Engine
from phi3kit.serve.failures import log_in_lines
from phi3kit.serve.http import Server
from phi3kit.serve.origins import Origins
from phi3kit.testing import tiny

TOKENIZER = tiny.tokenizer()
LETTER = TOKENIZER.encode("a")[0]
BODY = {"messages": [{"role": "user", "content": "x"}]}
CHAT = "/v1/chat/completions"


class Scripted(Engine):
    """Says the same letter for ever; a request may be made to fail, and each id takes a while."""

    context = 4096

    def __init__(self, seconds: float = 0.0, error: Exception | None = None, after: int = 0) -> None:
        self.seconds, self.error, self.after = seconds, error, after
        self.read, self.ids = 0, 0

    @property
    def position(self) -> int:
        return self.read

    def ingest(self, ids):
        time.sleep(self.seconds)
        self.read += len(ids)
        self.ids += 1
        if self.error and self.ids > self.after:
            raise self.error
        logits = torch.zeros(TOKENIZER.vocab_size)
        logits[LETTER] = 1.0
        return logits

    def reset(self) -> None:
        self.read = 0


@asynccontextmanager
async def serving(engine: Engine, origins: Origins | None = None):
    """A session with a server in this process, started as the verb starts it."""
    runner = web.AppRunner(Server(engine, TOKENIZER, "tiny", origins).application(), handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=1.0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with ClientSession(f"http://127.0.0.1:{port}", timeout=ClientTimeout(30)) as session:
            session.port = port  # type: ignore[attr-defined]
            yield session
    finally:
        await runner.cleanup()


def run(scenario, engine=None, origins=None):
    async def main():
        async with serving(engine or Scripted(), origins) as session:
            return await scenario(session)

    return asyncio.run(main())


async def post(session, body, path=CHAT, **options):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(path, data=data, **options) as response:
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else text


def test_pages_of_this_machine_may_ask_and_others_may_not():
    async def scenario(session):
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-stainless-os"}
        found = {}
        for origin in (
            "http://localhost:3000",
            "http://127.0.0.1",
            "https://evil.example",
            "null",
            "http://localhost.evil",
        ):
            async with session.options(CHAT, headers={"Origin": origin, **asked}) as before:
                status, body = await post(session, {**BODY, "max_tokens": 1}, headers={"Origin": origin})
                allowed = before.headers.get("Access-Control-Allow-Origin")
                found[origin] = (before.status, allowed, before.headers.get("Access-Control-Allow-Headers"), status)
        return found, body

    found, body = run(scenario)
    for origin, seen in found.items():
        own = origin in ("http://localhost:3000", "http://127.0.0.1")
        assert seen == ((204, origin, "x-stainless-os", 200) if own else (403, None, None, 403))
    assert "start it with --cors http://localhost.evil" in body["error"]["message"]


def test_a_named_page_may_ask_and_reads_streams_and_mistakes():
    async def scenario(session):
        headers = {"Origin": "https://Chat.example.org"}
        for body in ({**BODY, "max_tokens": 2, "stream": True}, {"messages": []}):
            async with session.post(CHAT, json=body, headers=headers) as response:
                assert response.headers["Access-Control-Allow-Origin"] == headers["Origin"]
                assert response.headers["Vary"] == "Origin"
        status, _ = await post(session, {**BODY, "max_tokens": 1}, headers={"Origin": "https://other.org"})
        return status

    assert run(scenario, origins=Origins(["https://chat.example.org/"])) == 403
    with pytest.raises(UserError, match="is no origin"):
        Origins(["chat.example.org"])


def test_every_page_may_ask_where_the_owner_says_so():
    async def scenario(session):
        return (await post(session, {**BODY, "max_tokens": 1}, headers={"Origin": "https://other.org"}))[0]

    assert run(scenario, origins=Origins(["*"])) == 200


def test_models_by_name_and_the_first_page():
    async def scenario(session):
        found = {}
        for method, path in (
            ("GET", "/"), ("GET", "/v1"), ("HEAD", "/v1/models"), ("GET", "/v1/models/tiny"), ("GET", "/v1/models/a/b"),
            ("GET", "/v1/responses"), ("HEAD", CHAT), ("OPTIONS", CHAT), ("PUT", CHAT),
        ):  # fmt: skip
            async with session.request(method, path) as response:
                found[f"{method} {path}"] = (response.status, await response.text())
        return found

    found = run(scenario)
    assert {name: status for name, (status, _) in found.items()} == {
        "GET /": 200, "GET /v1": 200, "HEAD /v1/models": 200, "GET /v1/models/tiny": 200, "GET /v1/models/a/b": 404,
        "GET /v1/responses": 404, f"HEAD {CHAT}": 405, f"OPTIONS {CHAT}": 204, f"PUT {CHAT}": 405,
    }  # fmt: skip
    assert "curl http://127.0.0.1" in found["GET /"][1]
    assert json.loads(found["GET /v1/models/tiny"][1])["id"] == "tiny"
    assert json.loads(found["GET /v1/models/a/b"][1])["error"]["code"] == "model_not_found"
    assert json.loads(found[f"PUT {CHAT}"][1])["error"]["message"].endswith("use POST")


def test_another_models_name():
    async def scenario(session):
        named = [await post(session, {**BODY, "model": name, "max_tokens": 1}) for name in ("tiny", None, "gpt-5", 5)]
        return named, await post(session, {"prompt": "x", "model": "\ud83d"}, "/v1/completions")

    ((right, _), (none, _), (other, error), (number, _)), (half, _) = run(scenario)
    assert (right, none, other, number, half) == (200, 200, 404, 400, 404)
    assert error["error"]["code"] == "model_not_found"
    assert "this server has 'tiny'" in error["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"temperature": NaN}', "NaN is no number"),
        (b'{"temperature": -Infinity}', "-Infinity is no number"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e400}', "temperature inf is no number"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
        ('{"messages": "é"}'.encode("latin-1"), "not UTF-8 at byte 14"),
        ('{"messages": "é"}'.encode("utf-16"), "not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf{}", "`messages` must be a list"),
        (b'"x"', "must be a JSON object"),
    ],
)
def test_bodies_that_are_none(body, said, caplog):
    async def scenario(session):
        return await post(session, body, headers={"Content-Type": "application/json; charset=no-such"})

    status, answer = run(scenario)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert said in answer["error"]["message"]
    assert not caplog.records


@pytest.mark.parametrize("error", [RuntimeError("out of\nmemory"), UserError("the model's logits are no numbers")])
def test_a_failure_of_ours_is_a_500_and_one_line(error, caplog):
    async def scenario(session):
        whole = await post(session, {**BODY, "max_tokens": 5})
        engine.ids = 0
        streamed = await post(session, {**BODY, "max_tokens": 5, "stream": True})
        engine.error = None
        return whole, streamed, await post(session, {**BODY, "max_tokens": 5})

    engine = Scripted(error=error, after=2)
    (status, answer), (started, events), (later, _) = run(scenario, engine)
    assert (status, started, later) == (500, 200, 200)
    assert answer["error"]["type"] == "server_error"
    assert str(error) in answer["error"]["message"]
    *_, last, done, empty = events.split("\n\n")
    assert (done, empty) == ("data: [DONE]", "")
    assert json.loads(last.removeprefix("data: ")) == answer
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(line.startswith(f"POST {CHAT} failed: ") and "\n" not in line for line in lines)
    assert not any(record.exc_info for record in caplog.records)


async def raw(port, body, stream=False):
    """A request sent, its answer not waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps({**body, "stream": stream}).encode()
    writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(data)) + data)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_leave_are_not_worked_for(stream, caplog):
    """The one being answered, and those that wait for their turn."""

    async def scenario(session):
        left = [await raw(session.port, {**BODY, "max_tokens": 4000}, stream) for _ in range(8)]
        await asyncio.sleep(0.3)
        for _, writer in left:
            writer.close()
        await asyncio.sleep(0.1)
        before, start = engine.ids, time.monotonic()
        status, _ = await post(session, {**BODY, "max_tokens": 2})
        return status, engine.ids - before, time.monotonic() - start

    engine = Scripted(seconds=0.01)
    status, ids, _ = run(scenario, engine)
    assert status == 200
    assert ids < 10
    assert not caplog.records, caplog.text


def test_an_answer_of_no_pieces_stops_too():
    """A client that leaves while all that was said may still become a stop text, so that no piece is ready."""

    async def scenario(session):
        _, writer = await raw(session.port, {**BODY, "max_tokens": 4000, "stop": ["a" * 999 + "b"], "temperature": 0})
        await asyncio.sleep(0.2)
        writer.close()
        await asyncio.sleep(0.2)
        before = engine.ids
        await asyncio.sleep(0.2)
        return engine.ids - before

    engine = Scripted(seconds=0.005)
    assert run(scenario, engine) == 0


def test_a_client_that_does_not_read_holds_nobody_up():
    async def scenario(session):
        reader, writer = await raw(session.port, {**BODY, "max_tokens": 4000}, stream=True)
        reader._transport.pause_reading()
        try:
            return await asyncio.wait_for(post(session, {**BODY, "max_tokens": 2}), 60)
        finally:
            writer.close()

    assert run(scenario)[0] == 200


def test_stop_texts_across_ids():
    async def scenario(session):
        found = []
        for stop in ("aaa", ["b", "aab", "aaaa"], "é"):
            body = {**BODY, "max_tokens": 6, "temperature": 0, "stop": stop}
            _, whole = await post(session, body)
            _, events = await post(session, {**body, "stream": True})
            chunks = [json.loads(event.removeprefix("data: ")) for event in events.split("\n\n")[:-2]]
            pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
            choice = whole["choices"][0]
            assert "".join(pieces) == choice["message"]["content"]
            found.append((choice["message"]["content"], choice["finish_reason"]))
        return found

    assert run(scenario) == [("", "stop"), ("", "stop"), ("aaaaaa", "length")]


def test_a_body_that_never_comes_and_one_that_is_no_http(caplog):
    async def scenario(session):
        reader, writer = await asyncio.open_connection("127.0.0.1", session.port)
        writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{" % CHAT.encode())
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", session.port)
        writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}" % CHAT.encode())
        answer = await reader.read(1000)
        return answer, await post(session, {**BODY, "max_tokens": 1})

    log_in_lines()
    answer, (status, _) = run(scenario)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert status == 200
    assert not any(record.exc_info for record in caplog.records)
    assert len(caplog.records) <= 1


def test_a_thread_for_each_answer_and_no_two_at_once():
    inside, most = 0, 0
    lock = threading.Lock()

    class Watched(Scripted):
        def ingest(self, ids):
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            logits = super().ingest(ids)
            with lock:
                inside -= 1
            return logits

    async def scenario(session):
        return await asyncio.gather(*(post(session, {**BODY, "max_tokens": 5}) for _ in range(6)))

    assert [status for status, _ in run(scenario, Watched(seconds=0.002))] == [200] * 6
    assert most == 1


logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
