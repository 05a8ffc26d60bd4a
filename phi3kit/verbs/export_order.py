"""What an export recipe asks for, read and checked before the slow work begins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit.errors import UserError
from phi3kit.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from phi3kit.export.program import AtEnd
    from phi3kit.export.stores import CacheType
    from phi3kit.families import Backend, Quantizer, Tokenizer
    from phi3kit.model import Decoder
    from phi3kit.model.source import Source
    from phi3kit.records import Conversation

BLOCK, HELDOUT_TOKENS = 256, 2048  # of held-out text that the program reads token by token
LARGE = 10**9 / 3e6  # parameters, in shares
STAND_IN = 512  # ids of the tokenizer that random weights get


@dataclass(frozen=True)
class Order:
    """What a recipe asks for.

    Args:
        source: the float weights.
        tokenizer: the model's.
        quantizer: None leaves the weights as they are.
        backend: lowers the program.
        context: tokens of a conversation; None: the net's.
        cache: how keys and values are kept.
        at_end: what becomes of a conversation that reaches the context.
        crops: rows and columns of crops of every image.
        blocks: held-out text, ids of each block.
        asked: conversations to answer exactly, by name.
        beside: other nets to ask them, by name, each with its tokenizer.
        talk: turns of the closing conversation.
        calibration: text that the quantizer is fitted to, ids of each row.
    """

    source: Source
    tokenizer: Tokenizer
    quantizer: Quantizer | None
    backend: Backend
    context: int | None
    cache: CacheType
    at_end: AtEnd
    crops: tuple[int, int]
    blocks: list[Tensor]
    asked: Mapping[str, list[Conversation]]
    beside: Mapping[str, tuple[Decoder, Tokenizer]]
    talk: list[str]
    calibration: list[Tensor]

    @cached_property
    def net(self) -> Decoder:
        """The float net, all of it: read only where something is measured on it."""
        from phi3kit.model.source import whole_net

        return whole_net(self.source)

    def seconds(self) -> dict[str, float]:
        """About how long each stage takes on two laptop cores, from what grows with the net."""
        layers, share = self.source.net.dims.n_layers, self.source.net.parameter_count() / 3e6
        answers = sum(map(len, self.asked.values())) * (2 + len(self.beside))
        prove = 0.5 * share if share > LARGE else 4 + layers + 0.1 * layers * share  # a large net's is a shorter one
        seconds = {"quantize": 2 + 0.12 * share, "lower": 4 + 7.5 * layers, "prove": prove}
        optional: dict[str, tuple[Any, float]] = {
            "blocks": (self.source.path is None, 1 + 0.1 * share),
            "held-out text": (self.blocks, 1 + share),
            "questions": (self.asked, 1 + 0.004 * answers * (0.3 + share)),
            "talk": (self.talk, 1 + share),
        }
        return seconds | {name: cost for name, (wanted, cost) in optional.items() if wanted}


def read_order(recipe: Recipe) -> Order:
    """Check and open everything the recipe names. Raises `UserError`."""
    from phi3kit.checkpoints.tokenizer_door import compare_tokenizers
    from phi3kit.export import XNNPACK, assemble, workplace
    from phi3kit.export.device_text import check_before
    from phi3kit.text import read_conversations
    from phi3kit.text.device_template import template

    config, objects = recipe.config, recipe.instantiate()
    if config.get("name") is None:
        raise UserError("the recipe lacks name")
    if config.beside and not config.questions:
        raise UserError("beside names runs to ask the questions, but there are no questions; add some or leave it out")
    workplace.check_target(recipe.out)
    assemble.model_file(config.name)
    source = _source(config)
    quantizer = _quantizer(objects.quantizer, config.max_size, _table_bytes(source.net, config.context))
    backend = objects.backend or XNNPACK()
    cache = _checked_cache(config, source, quantizer, backend)
    if note := trained_otherwise(source.path, quantizer):
        print(f"note: {note}", flush=True)
    tokenizer = tokenizer_of(source, config.tokenizer)
    if source.path is not None and config.tokenizer is None and (source.path / "config.json").is_file():
        for line in compare_tokenizers(source.path, tokenizer):
            print(line, flush=True)
    check_before(tokenizer, source.net.dims.vocab_size)
    pieces = template(tokenizer)
    if tokenizer.chat_form is not None:
        known = "" if "system" in pieces else "; it has no system turns that an app could add"
        print(f"note: conversations are written and answers end as the model was trained{known}", flush=True)
    size = min(BLOCK, config.context or source.net.dims.context)
    return Order(
        source=source,
        tokenizer=tokenizer,
        quantizer=quantizer,
        backend=backend,
        context=config.context,
        cache=cache,
        at_end=config.at_end,
        crops=tuple(config.crops),
        blocks=list(blocks_of(config.heldout, size, HELDOUT_TOKENS // size)) if config.heldout else [],
        asked={name: read_conversations(path) for name, path in (config.questions or {}).items()},
        beside={name: _other(run, f"beside.{name}") for name, run in (config.beside or {}).items()},
        talk=config.talk or [],
        calibration=_calibration(config, source, size),
    )


def _quantizer(named: Quantizer | None, max_size: str | None, tables: int) -> Quantizer | None:
    """The recipe's; a budget asks for `MixedPrecision` in its place."""
    from phi3kit.quantizers import MixedPrecision

    if max_size is not None:
        named = named.within(max_size) if isinstance(named, MixedPrecision) else MixedPrecision(max_size)
    return named.beside(tables) if isinstance(named, MixedPrecision) else named


def _checked_cache(config: Any, source: Source, quantizer: Quantizer | None, backend: Backend) -> CacheType:
    """How keys and values are kept. Raises `UserError` where the backend cannot do what the recipe asks for."""
    from phi3kit.export.needs import check, needs
    from phi3kit.export.program import cache_for, context_of

    context = context_of(source.net, config.context)
    cache: CacheType = config.cache or ("float" if "int8 cache" in backend.cannot else cache_for(context))
    check(backend, needs(source.section, quantizer, context=context, cache=cache, at_end=config.at_end))
    return cache


def _table_bytes(net: Decoder, context: int | None) -> int:
    """Of cosines and sines in a program, fp32: a row of a head's width for each position."""
    from phi3kit.export.program import context_of

    return 2 * 4 * net.dims.head_width * context_of(net, context)


def trained_otherwise(run: Path | None, quantizer: Quantizer | None) -> str:
    """What to say where a run was trained through another rounding (`QuantizationAware`) than it is exported with."""
    report = None if run is None else run / "report.json"
    if report is None or not report.is_file():
        return ""
    meant = json.loads(report.read_text()).get("trained_for")
    if meant is None or (quantizer is not None and quantizer.describe() == meant):
        return ""
    linear = meant["linear"]
    return (
        f"{run} was trained to be rounded to {linear['weight_bits']} bits, groups of {linear['group_size']}, method "
        "plain; with another quantizer than its recipe's QuantizationAware names, the program is not what was trained"
    )


def _calibration(config: Any, source: Source, row: int) -> list[Tensor]:
    from phi3kit.verbs.calibration_text import rows_of

    if config.calibration is None:
        return []
    tokenizer = tokenizer_of(source, config.tokenizer)
    return rows_of(config.calibration, tokenizer, row, config.calibration_tokens)


def _source(config: Any) -> Source:
    """The weights a recipe names: a folder's, or random ones of the net it describes."""
    from phi3kit.model.load import check_names
    from phi3kit.model.source import RandomSource

    check_names(config.net or {})
    if config.net and "dims" not in config.net:
        raise UserError("net lacks dims: it says which net random weights are drawn for")
    if config.random is None:
        if config.start_from is None:
            raise UserError("the recipe lacks start_from")
        return _checked(source_of(config.start_from, "start_from"))
    if config.start_from is not None:
        raise UserError("start_from names weights and random draws others; leave one of them out")
    if config.net is None:
        raise UserError("random weights are drawn for a net, which the recipe lacks; add base: net.yaml")
    return RandomSource(config.net, config.random)


def _checked(source: Source) -> Source:
    """A source whose weights are all numbers. Raises `UserError`."""
    from phi3kit.model.finite import check_finite

    for name in source.net.state_dict():
        check_finite(source.tensor(name), name, source.path)
        source.forget()
    return source


def source_of(folder: Path, key: str = "run") -> Source:
    """The weights of a folder: a public checkpoint where it has a config.json, as `phi3kit convert` sees it, or a run.

    Raises:
        UserError: neither of the two, or not whole.
    """
    from phi3kit.checkpoints.source import PublicSource
    from phi3kit.model.source import RunSource

    if not folder.is_dir():
        raise UserError(f"{key}: there is no run at {folder}")
    return PublicSource(folder) if (folder / "config.json").is_file() else RunSource(folder)


def tokenizer_of(source: Source, given: Path | None = None) -> Tokenizer:
    """The tokenizer of a source's folder, or one given in its place; for random weights a small one stands in."""
    from phi3kit.checkpoints.source import PublicSource
    from phi3kit.text import load_tokenizer, tokenizer_going_on

    if given is not None:
        run = None if source.path is None or isinstance(source, PublicSource) else source.path / "tokenizer"
        return tokenizer_going_on(given, run if run is not None and run.is_dir() else None)
    if source.path is None:
        return _stand_in()
    if not isinstance(source, PublicSource):
        return load_tokenizer(source.path / "tokenizer")
    tokenizer = source.tokenizer()
    if tokenizer is None:
        raise UserError(f"{source.path} has no tokenizer that can be read; copy its tokenizer.json there")
    return tokenizer


def _stand_in() -> Tokenizer:
    from phi3kit.export.samples import AWKWARD, PROMPTS
    from phi3kit.text.bpe import train_bpe

    return train_bpe([*PROMPTS, *AWKWARD], vocab_size=STAND_IN)


def _other(run: Path, key: str) -> tuple[Decoder, Tokenizer]:
    from phi3kit.model.source import whole_net

    source = source_of(run, key)
    return whole_net(source), tokenizer_of(source)


def blocks_of(folder: Path, size: int, count: int) -> Iterator[Tensor]:
    """At most `count` blocks, spread over a folder of token chunks."""
    import torch

    from phi3kit.phases.token_stream import litdata_blocks

    blocks: Any = litdata_blocks(folder, size)
    step = max(1, len(blocks) // count)
    for number in range(0, min(len(blocks), step * count), step):
        yield torch.as_tensor(blocks[number]).to(torch.int64)
