"""datatrove's InferenceRunner moves the requests: it keeps many items in work, and sends what each of them asks.

Three things are left to us, since its own way (0.10.1) falls short of them:

- The server. Its "endpoint" first asks URL/v1/models, without a key, and takes anything but a 200 for a server that
  does not run; over http it gives up at a 429, 500 or 503 and waits for an answer without end; for https, or another
  machine, it needs the package openai. `_Elsewhere` takes its place: our client, and nothing to start or to wait for.
- What is kept. It keeps documents by their ids alone, whatever was asked about them, forgets the answers of a chunk
  before it notes that the chunk is done, and only logs what it could not write. `Asked` keeps each answer in a file, by
  all that decides it, before the runner sees it; so a killed run asks nothing twice.
- Order. Documents are written as they get done; here they are numbered, and put in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.servers import InferenceServer
from datatrove.pipeline.inference.types import InferenceError, InferenceResult
from loguru import logger

from phi3kit.corpus.annotators.endpoint import Reply

Item = TypeVar("Item")
Made = TypeVar("Made")
Generate = Callable[[dict[str, Any]], Awaitable[InferenceResult]]  # the body of a request -> its answer
CUT_OFF = "length"  # OpenAI's finish_reason of an answer that reached max_tokens


class Sends(Protocol):
    """A model that answers requests; called from many threads."""

    def send(self, body: dict[str, Any]) -> Reply:
        """The answer to a request."""


def run_all(
    work: Callable[[Item, Generate], Awaitable[Made]], items: Sequence[Item], model: str, sends: Sends, concurrency: int
) -> list[Made]:
    """What came of each item, in order.

    Args:
        work: (item, generate) -> what comes of it, not None; asks by `await generate(body)`, as often as it likes.
        items: to work on.
        model: its name in every request.
        sends: answers requests.
        concurrency: requests, and items, at a time.

    Raises:
        Exception: the first that `work` or `sends` raises, when the requests under way have ended.
    """

    async def rollout(document: Document, generate: Generate) -> Made:
        return await work(items[int(document.id)], generate)

    logger.disable("datatrove")  # its console lines; what failed is raised
    results = _Results()
    config = InferenceConfig("endpoint", model, max_concurrent_generations=concurrency)
    try:
        _Runner(rollout, config, results, sends).run(Document("", str(n)) for n in range(len(items)))
    except InferenceError as error:
        raise (error.__cause__ or error) from None
    return [results.made[n] for n in range(len(items))]


class _Runner(InferenceRunner):
    """A runner whose server is elsewhere."""

    def __init__(self, rollout: Any, config: InferenceConfig, results: _Results, sends: Sends) -> None:
        super().__init__(rollout, config, results)
        self._sends = sends

    def _init_server(self, rank: int) -> InferenceServer:
        return _Elsewhere(self.config, rank, self._sends)


class _Elsewhere(InferenceServer):
    """A server that somebody else runs; each request has a thread that waits for its answer."""

    def __init__(self, config: InferenceConfig, rank: int, sends: Sends) -> None:
        super().__init__(config, rank)
        self._sends, self._threads = sends, ThreadPoolExecutor(config.max_concurrent_generations)
        self._is_master = True  # any node of a job may ask; those but the first would wait forever

    async def start_server(self) -> None:
        """Nothing to start."""

    async def monitor_health(self) -> None:
        """Nothing to watch: a dead server is told by its requests."""
        await asyncio.Event().wait()

    async def is_ready(self) -> bool:
        """As far as anybody knows."""
        return True

    async def _make_request(self, payload: dict[str, Any]) -> dict[str, Any]:
        reply = await asyncio.get_running_loop().run_in_executor(self._threads, self._sends.send, payload)
        reason = "stop" if reply.whole else CUT_OFF
        return {"choices": [{"message": {"content": reply.text}, "finish_reason": reason}]}

    async def __aexit__(self, *error: Any) -> None:
        await super().__aexit__(*error)
        self._threads.shutdown(wait=True, cancel_futures=True)  # what is being answered is kept


class _Results:
    """What the runner takes for its writer: number of the item -> what came of it."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def write(self, document: Document, rank: int, chunk_index: int) -> None:
        """Take a document that is done."""
        (self.made[int(document.id)],) = document.metadata["rollout_results"]
