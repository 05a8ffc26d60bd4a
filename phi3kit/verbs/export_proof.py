"""The proof of an export; of a large net in a process of its own, which begins with nothing in memory.

That process reads the program from the unfinished bundle, and the net to compare with from the quantized parts kept
there: their pages, of which the system takes back what it needs.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit.errors import UserError

if TYPE_CHECKING:
    from phi3kit.export import Program
    from phi3kit.export.program import AtEnd
    from phi3kit.export.proof import Proof
    from phi3kit.export.stores import CacheType
    from phi3kit.export.vision import VisionPrograms
    from phi3kit.families import Tokenizer

APART = 10**9  # bytes of fp32 weights from which on the proof has its own process; starting one takes five seconds


@dataclass(frozen=True)
class ToProve:
    """What a proof needs, and another process can be sent.

    Args:
        model: the `.pte`.
        device_tokenizer: its tokenizer.json.
        promise: constant methods under "constants", allowed delegates under "delegates".
        tokenizer: the model's own.
        texts: what users ask.
        section: the ``net:`` of a recipe.
        kept: folder of the quantized parts.
        context: tokens of a conversation.
        cache: how keys and values are kept.
        at_end: what becomes of a conversation that reaches the context.
        crops: rows and columns of crops of every image.
    """

    model: Path
    device_tokenizer: Path
    promise: dict[str, Any]
    tokenizer: Tokenizer
    texts: list[str]
    section: dict[str, Any]
    kept: Path
    context: int | None
    cache: CacheType | None
    at_end: AtEnd
    crops: tuple[int, int]


def proof_apart(work: ToProve) -> tuple[Proof, int]:
    """The proof, made in another process, and that one's peak of resident memory in bytes.

    Raises:
        UserError: the process was killed, most likely for its memory.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_prove, work).result()
    except BrokenProcessPool as error:
        raise UserError(
            "the process that proves the program was killed, most likely for want of memory; close other programs and "
            "export again, what is quantized is kept"
        ) from error


def _prove(work: ToProve) -> tuple[Proof, int]:
    from phi3kit.export.room import peak_memory
    from phi3kit.verbs.verify import prove

    program, vision = programs(work)
    proof = prove(work.model, work.device_tokenizer, work.promise, work.tokenizer, program, work.texts, vision)
    return proof, peak_memory()


def programs(work: ToProve) -> tuple[Program, VisionPrograms | None]:
    """The quantized net as the programs it is lowered to, run eagerly."""
    from phi3kit.export import Program
    from phi3kit.export.program import context_of
    from phi3kit.export.stream import kept_net
    from phi3kit.export.vision import VisionPrograms

    net = kept_net(work.section, work.kept)
    program = Program(net, context_of(net, work.context), work.cache, work.at_end)
    return program, None if net.vision_embed_tokens is None else VisionPrograms.of(program, work.crops)
