"""The HTTP server: OpenAI's endpoints over one engine. It answers one request at a time; others wait their turn.

GET /, /health, /v1/models and /v1/models/NAME; POST /v1/chat/completions and /v1/completions, with ``"stream": true``
as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). An answer whose client leaves is
given up, streamed or not; aiohttp cancels its handler then (`handler_cancellation`, which `serve` asks for).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, NoReturn, final

from aiohttp import web

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model.engine import Engine
from phi3kit.serve import failures
from phi3kit.serve.failures import EngineError, Handler, NoSuchModelError
from phi3kit.serve.origins import Origins
from phi3kit.serve.protocol import Ask, Reply, read_chat, read_completion
from phi3kit.serve.responder import Responder
from phi3kit.serve.turns import Turns

LARGEST = 16 * 2**20  # bytes of a request


@final
class Server:
    """The endpoints of one model.

    Args:
        engine: what answers.
        tokenizer: the one it was trained with.
        name: what the model is called in requests and answers.
        origins: whose web pages may use it; None: this machine's own alone.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, name: str, origins: Origins | None = None) -> None:
        self.responder = Responder(engine, tokenizer)
        self.tokenizer, self.name, self.origins = tokenizer, name, origins or Origins()
        self._turns = Turns()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=LARGEST, middlewares=[failures.as_json, self._pages])
        app.on_response_prepare.append(self.origins.tell)
        app.add_routes(
            [
                web.get("/", self._welcome),
                web.get("/v1", self._welcome),
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.get("/v1/models/{name:.+}", self._model),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._complete),
            ]
        )
        return app

    @web.middleware
    async def _pages(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign pages, and answer a browser's OPTIONS."""
        if refusal := self.origins.admit(request):
            return failures.response(403, refusal)
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": "GET, HEAD, OPTIONS, POST"})
        return await handler(request)

    async def _welcome(self, request: web.Request) -> web.Response:
        base = f"{request.scheme}://{request.host}/v1"
        body = json.dumps({"model": self.name, "messages": [{"role": "user", "content": "Hello"}]})
        lines = [
            f"{self.name} is served here by phi3kit, through OpenAI's API. Clients need this base URL, and any key:",
            f"  {base}",
            "A question:",
            f"  curl {base}/chat/completions -H 'Content-Type: application/json' -d '{body}'",
        ]
        return web.Response(text="\n\n".join(lines) + "\n")

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._about()]})

    async def _model(self, request: web.Request) -> web.Response:
        self._check(request.match_info["name"])
        return web.json_response(self._about())

    def _about(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": 0, "owned_by": "phi3kit"}

    def _check(self, name: Any) -> None:
        """Refuse a request for another model; one that names none means ours."""
        if name is not None and not isinstance(name, str):
            raise UserError(f"`model` is {name!r:.60}; give a name")
        if name not in (None, self.name):
            raise NoSuchModelError(f"there is no model {name!r:.100} here; this server has {self.name!r}")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_chat, chat=True)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_completion, chat=False)

    async def _answer(
        self, request: web.Request, read: Callable[[Any, Tokenizer], Ask], *, chat: bool
    ) -> web.StreamResponse:
        body = _json(await request.read())
        ask = read(body, self.tokenizer)
        self._check(body.get("model"))
        self.responder.check(ask)
        reply = Reply(self.name, chat, len(ask.ids))
        async with aclosing(self._pieces(ask, reply)) as pieces:
            if ask.stream:
                return await _stream(request, pieces, ask, reply)
            text = "".join([piece async for piece in pieces])
        return web.json_response(reply.whole(text))

    async def _pieces(self, ask: Ask, reply: Reply) -> AsyncGenerator[str, None]:
        try:
            async with aclosing(self._turns.pieces(partial(self.responder.answer, ask, reply))) as pieces:
                async for piece in pieces:
                    yield piece
        except Exception as error:
            raise EngineError from error


async def _stream(
    request: web.Request, pieces: AsyncGenerator[str, None], ask: Ask, reply: Reply
) -> web.StreamResponse:
    """The answer as events; one that fails ends with an event `error`."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    try:
        await response.prepare(request)
        if reply.chat:
            await _send(response, reply.chunk("", first=True))
        try:
            async for piece in pieces:
                await _send(response, reply.chunk(piece))
        except EngineError as error:
            await _send(response, failures.failed(request, error))
        else:
            await _send(response, reply.chunk("", last=True))
            if ask.usage_at_end:
                await _send(response, reply.usage_chunk())
        await response.write(b"data: [DONE]\n\n")
    except ConnectionResetError:
        pass  # the client has gone
    return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())


def _json(body: bytes) -> Any:
    """The body of a request, which is JSON in UTF-8 (RFC 8259)."""
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise UserError(f"the request's body is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise UserError("the request's body is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"the request's body is not JSON: {error}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
