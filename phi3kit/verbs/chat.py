"""``phi3kit chat PATH``: talk with a run or a bundle in the terminal, several turns, as it thinks of the words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from phi3kit.errors import UserError

if TYPE_CHECKING:
    from phi3kit.serve import Chat


def main(arguments: list[str]) -> int:
    """Run the verb: one line of standard input is one turn."""
    options = _parser().parse_args(arguments)
    from phi3kit.model.sampling import Sampler
    from phi3kit.serve import Chat, load

    sampler = Sampler(options.temperature, options.top_p, options.seed)
    engine, tokenizer = load(options.path, on_rebuild=_tell_rebuild)
    chat = Chat(engine, tokenizer, sampler, options.system, options.max_new_tokens)
    if sys.stdin.isatty():
        print(f"{options.path}: {engine.context} tokens of context. /reset begins anew, Ctrl-D ends.")
    for line in _lines():
        if line == "/reset":
            chat.reset()
        elif line:
            _turn(chat, line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="phi3kit chat", description=__doc__)
    parser.add_argument("path", type=Path, help="run folder or bundle folder")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy; default %(default)s")
    parser.add_argument(
        "--top-p", type=float, default=0.9, help="sample among the likeliest ids that make up this much"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--system", help="instructions before the conversation")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="longest answer; default %(default)s")
    return parser


def _lines() -> Iterator[str]:
    """Lines typed or piped, until their end."""
    while True:
        try:
            yield input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            if sys.stdin.isatty():
                print()
            return


def _turn(chat: Chat, text: str) -> None:
    """Print the answer as it comes. Ctrl-C ends the answer, not the conversation."""
    try:
        for piece in chat.ask(text):
            print(piece, end="", flush=True)
        print()
    except KeyboardInterrupt:
        print(" …")
    except UserError as error:
        print(f"phi3kit: {error}", file=sys.stderr)
        return
    if chat.cut:
        print(f"(cut after {chat.max_new_tokens} tokens or at the end of the context)", file=sys.stderr)


def _tell_rebuild(length: int) -> None:
    print(
        f"(token {length} is beyond the net's original context: LongRoPE's other list is used from here on, and "
        "the conversation was read again with it)",
        file=sys.stderr,
    )
