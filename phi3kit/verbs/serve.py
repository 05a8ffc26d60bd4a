"""``phi3kit serve PATH``: OpenAI-compatible chat and text completions over a run or a bundle.

Where a request gives no temperature it is 1, OpenAI's default; `phi3kit chat` takes the most likely word (0).
"""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

from phi3kit.errors import UserError

SECONDS_TO_END = 2.0  # for answers in the making, after Ctrl-C


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C."""
    options = _parser().parse_args(arguments)
    from aiohttp import web

    from phi3kit.serve import failures, load
    from phi3kit.serve.http import Server
    from phi3kit.serve.origins import Origins
    from phi3kit.text.characters import whole_characters

    name = whole_characters(options.name or options.path.resolve().name, "the model's name (--name)")
    origins = Origins(options.cors)
    listening = listen(options.host, options.port)
    engine, tokenizer = load(options.path)
    host, port = listening.getsockname()[:2]
    print(f"{name}: {engine.context} tokens of context, at http://{host}:{port}/v1 (Ctrl-C ends)", flush=True)
    failures.log_in_lines()
    app = Server(engine, tokenizer, name, origins).application()
    # handler_cancellation: a client that leaves ends its answer; shutdown_timeout: so does Ctrl-C
    web.run_app(app, sock=listening, print=None, handler_cancellation=True, shutdown_timeout=SECONDS_TO_END)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="phi3kit serve", allow_abbrev=False, description=__doc__)
    parser.add_argument("path", type=Path, help="run folder or bundle folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one; default %(default)s")
    parser.add_argument("--name", help="what the model is called; default: the folder's name")
    parser.add_argument(
        "--cors", action="append", default=[], metavar="ORIGIN",
        help="web pages that may use it beside those of this machine, e.g. https://chat.example.org, or * for all of "
        "the internet's; may be repeated",
    )  # fmt: skip
    return parser


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UserError` where the address is taken or not ours."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}:{port}: {reason}; choose another --port or --host") from error
