"""An OpenAI-compatible endpoint on this machine that answers what a test wants, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Reply = Callable[[str, int], tuple[int, Any]]  # (prompt, how often it was asked so far) -> (status, body)


def points(prompt: str, _: int = 0) -> tuple[int, Any]:
    """As many points as the text has words, up to 5, with a reason."""
    text = prompt.split("\n====\n")[1]
    return 200, answer(f"It has {len(text.split())} words.\n\nScore: {min(len(text.split()), 5)}")


def answer(content: str) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"choices": [{"message": {"role": "assistant", "content": content}}]}


class DummyEndpoint:
    """A server in a thread, for a ``with`` statement.

    Args:
        reply: what it answers; a reply of bytes is sent as it is, of None drops the connection.
        seconds: how long it thinks.
    """

    def __init__(self, reply: Reply = points, seconds: float = 0.0) -> None:
        self.prompts: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][-1]["content"]
                with lock:
                    before = endpoint.prompts.count(prompt)
                    endpoint.prompts.append(prompt)
                    endpoint.headers.append({**self.headers, "path": self.path})
                    endpoint.at_once += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint.at_once)
                time.sleep(seconds)
                with lock:
                    endpoint.at_once -= 1
                status, content = reply(prompt, before)
                if content is None:
                    self.connection.close()
                    return
                sent = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                if status in (301, 302, 307):
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:  # whoever asked did not wait for the answer
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def start(self) -> DummyEndpoint:
        """Serve until the process ends, or `stop`."""
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Answer no more."""
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> DummyEndpoint:
        return self.start()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
