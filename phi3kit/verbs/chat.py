"""``phi3kit chat PATH``: talk with a run or a bundle in the terminal, several turns, as it thinks of the words."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from phi3kit.errors import UserError, nearest
from phi3kit.verbs import typed

if TYPE_CHECKING:
    from phi3kit.serve import Chat


COMMANDS = {"/reset": "begin a new conversation", "/help": "this list", "/quit": "end; so do exit, quit and Ctrl-D"}
ENDS = ("/quit", "/exit", "/bye")
WORDS = ("exit", "quit")  # end too, where they are typed


def main(arguments: list[str]) -> int:
    """Run the verb: one line of standard input is one turn."""
    options = _parser().parse_args(arguments)
    from phi3kit.model.sampling import Sampler
    from phi3kit.serve import Chat, load

    terminal = typed.prepare()
    sampler = Sampler(options.temperature, options.top_p, options.seed)
    if options.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {options.max_new_tokens}; an answer has at least 1 token")
    try:
        engine, tokenizer = load(options.path, on_rebuild=_tell_rebuild)
        chat = Chat(engine, tokenizer, sampler, options.system, options.max_new_tokens)
        if terminal:
            print(f"{options.path}: {engine.context} tokens of context. /help lists commands, Ctrl-D ends.")
        for line in typed.turns(terminal):
            if _ends(line, terminal):
                break
            if _is_command(line):
                _obey(line, chat, terminal)
            elif line:
                _turn(chat, line, terminal)
    except KeyboardInterrupt:
        print("\nphi3kit: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="phi3kit chat", allow_abbrev=False, description=__doc__)
    parser.add_argument("path", type=Path, help="run folder or bundle folder")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0 (default) is greedy; `phi3kit serve` samples at 1, as OpenAI does",
    )
    parser.add_argument(
        "--top-p", type=float, default=0.9, help="sample among the likeliest ids that make up this much"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--system", help="instructions before the conversation")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="longest answer; default %(default)s")
    return parser


def _ends(line: str, terminal: bool) -> bool:
    return line.lower() in (*ENDS, *(WORDS if terminal else ()))


def _is_command(line: str) -> bool:
    """A word after a slash, alone; ``/etc/hosts`` and sentences that begin with a slash are none."""
    return bool(re.fullmatch(r"/[a-z?]+", line.lower()))


def _obey(command: str, chat: Chat, terminal: bool) -> None:
    """Do what a command says, and say so at a terminal."""
    name = command.lower()
    if name == "/reset":
        chat.reset()
        if terminal:
            print("(a new conversation)")
    elif name in ("/help", "/?"):
        for each, meaning in COMMANDS.items():
            print(f"{each:8} {meaning}")
        print("Ctrl-C   ends an answer")
    else:
        print(f"phi3kit: there is no command {command!r:.60}{nearest(command, COMMANDS)}", file=sys.stderr)


def _turn(chat: Chat, text: str, terminal: bool) -> None:
    """Print the answer as it comes. At a terminal Ctrl-C ends the answer, not the conversation."""
    try:
        answer = chat.ask(text)
    except UserError as error:
        print(f"phi3kit: {error}", file=sys.stderr)
        if terminal and chat.fits_alone(text) and typed.agreed("Begin a new conversation with it?"):
            chat.reset()
            _turn(chat, text, terminal)
        return
    try:
        for piece in answer:
            print(piece, end="", flush=True)
        print()
    except KeyboardInterrupt:
        print(" …")
        if not terminal:
            raise
        return
    except UserError as error:
        print(f"\nphi3kit: {error}", file=sys.stderr)
        return
    if chat.full:
        print("(cut at the end of the context; /reset begins a new conversation)", file=sys.stderr)
    elif chat.cut:
        print(f"(cut after {chat.max_new_tokens} tokens; --max-new-tokens allows more)", file=sys.stderr)


def _tell_rebuild(length: int) -> None:
    print(
        f"(token {length} is beyond the net's original context: LongRoPE's other list is used from here on, and "
        "the conversation was read again with it)",
        file=sys.stderr,
    )
