"""The verb table: ``phi3kit <verb> ...``. Each verb is a module with a ``main(arguments) -> exit code``.

This file imports nothing heavy; the verb's module does, when it is its turn.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from phi3kit import __version__
from phi3kit.errors import UserError, nearest
from phi3kit.verbs.processes import end_with_parent, wait_politely

VERBS = {
    "run": ("phi3kit.verbs.run", "run a folder's numbered recipes in order, skipping what is done"),
    "prepare": ("phi3kit.verbs.prepare", "documents -> filtered -> tokens, questions and preferences"),
    "score": ("phi3kit.verbs.score", "score fit: labels -> a scorer of texts; score report: what one is worth"),
    "fit": ("phi3kit.verbs.fit", "train one phase"),
    "validate": ("phi3kit.verbs.validate", "loss of a trained run on its held-out data"),
    "test": ("phi3kit.verbs.validate", "the same, on the data's test part"),
    "study": ("phi3kit.verbs.study", "recipes x seeds: trained, measured, compared; tables and a plot"),
    "export": ("phi3kit.verbs.export", "a trained run -> quantized .pte in a bundle, and its proof"),
    "verify": ("phi3kit.verbs.verify", "prove a bundle again"),
    "chat": ("phi3kit.verbs.chat", "talk with a run or a bundle"),
    "serve": ("phi3kit.verbs.serve", "the same over HTTP: an OpenAI-compatible endpoint"),
    "convert": ("phi3kit.verbs.convert", "a public checkpoint folder -> a run, or a run -> a public checkpoint folder"),
    "preview": ("phi3kit.verbs.preview", "a batch as the model sees it, tokens with loss in colour"),
    "pattern": ("phi3kit.verbs.pattern", "draw what each attention head of a net sees, as an SVG"),
    "plugins": ("phi3kit.verbs.plugins", "installed plugins; --check imports and checks them"),
    "new-plugin": ("phi3kit.verbs.new_plugin", "write a plugin package to start from"),
    "env": ("phi3kit.verbs.env", "versions and devices, for a bug report"),
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the ``phi3kit`` command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"phi3kit {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in VERBS:
            raise UserError(f"there is no verb {verb!r}{nearest(verb, VERBS)}")
        return _call(verb, rest)
    except UserError as error:
        print(f"phi3kit: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nphi3kit: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _call(verb: str, rest: list[str]) -> int:
    end_with_parent()
    wait_politely(os.environ)
    module = import_module(VERBS[verb][0])
    if verb == "test":
        return module.main(rest, part="test")
    return module.main(rest)


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: phi3kit VERB [--recipe FILE ...] [--key.of.recipe VALUE ...]",
            "",
            "Build your own Phi, from raw text to a chat model that runs on a phone.",
            "",
            *lines,
            "",
            "phi3kit VERB --help lists a verb's options; phi3kit --version prints the version.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
