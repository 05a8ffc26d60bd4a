"""The HTTP server: OpenAI's endpoints over one engine. It answers one request at a time; others wait their turn.

GET /v1/models and /health; POST /v1/chat/completions and /v1/completions, with ``"stream": true`` as server-sent
events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, final

from aiohttp import web

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model.engine import Engine
from phi3kit.serve.protocol import Ask, Reply, read_chat, read_completion
from phi3kit.serve.responder import Responder

END = None  # after an answer's last piece


@final
class Server:
    """The endpoints of one model.

    Args:
        engine: what answers.
        tokenizer: the one it was trained with.
        name: what the model is called in requests and answers.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, name: str) -> None:
        self.responder = Responder(engine, tokenizer)
        self.tokenizer, self.name = tokenizer, name
        self._turn = asyncio.Lock()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=16 * 2**20, middlewares=[_errors_as_json])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._complete),
            ]
        )
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": self.name, "object": "model", "created": 0, "owned_by": "phi3kit"}
        return web.json_response({"object": "list", "data": [model]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_chat, chat=True)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_completion, chat=False)

    async def _answer(
        self, request: web.Request, read: Callable[[Any, Tokenizer], Ask], *, chat: bool
    ) -> web.StreamResponse:
        body = await _json(request)
        ask = read(body, self.tokenizer)
        self.responder.check(ask)
        reply = Reply(self.name, chat, len(ask.ids))
        async with self._turn:
            if ask.stream:
                return await self._stream(request, ask, reply)
            text = "".join([piece async for piece in _in_a_thread(self.responder.answer(ask, reply))])
        return web.json_response(reply.whole(text))

    async def _stream(self, request: web.Request, ask: Ask, reply: Reply) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if reply.chat:
            await _send(response, reply.chunk("", first=True))
        pieces = _in_a_thread(self.responder.answer(ask, reply))
        try:
            async for piece in pieces:
                await _send(response, reply.chunk(piece))
        except ConnectionResetError:
            return response  # the client has gone; closing the pieces ends the generation
        finally:
            await pieces.aclose()
        await _send(response, reply.chunk("", last=True))
        if ask.usage_at_end:
            await _send(response, reply.usage_chunk())
        await response.write(b"data: [DONE]\n\n")
        return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())


async def _json(request: web.Request) -> Any:
    try:
        return await request.json()
    except ValueError as error:
        raise UserError(f"the request's body is not JSON: {error}") from error


async def _in_a_thread(pieces: Iterator[str]) -> Any:
    """The pieces, made in a thread of their own; closing this ends the thread before the next piece."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
    stopped = threading.Event()

    def work() -> None:
        try:
            for piece in pieces:
                if stopped.is_set():
                    return
                loop.call_soon_threadsafe(queue.put_nowait, piece)
            loop.call_soon_threadsafe(queue.put_nowait, END)
        except Exception as error:  # handed to whoever waits for the pieces
            loop.call_soon_threadsafe(queue.put_nowait, error)

    done = loop.run_in_executor(None, work)
    try:
        while (piece := await queue.get()) is not END:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        stopped.set()
        await done


@web.middleware
async def _errors_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """Mistakes of the client as OpenAI's clients expect them."""
    try:
        return await handler(request)
    except UserError as error:
        return _error(400, str(error))
    except web.HTTPNotFound:
        return _error(404, f"there is nothing at {request.method} {request.path}; try /v1/chat/completions")
    except web.HTTPMethodNotAllowed:
        return _error(405, f"{request.method} is not for {request.path}")
    except web.HTTPRequestEntityTooLarge:
        return _error(413, "the request is larger than 16 MiB")


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=status)
