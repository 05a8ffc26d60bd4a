"""``phi3kit export``: a trained run -> a quantized ExecuTorch program in a bundle, and its proof.

The bundle is built in ``OUT.partial`` and takes its name only when everything in it has been proven.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.recipe import Recipe
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from torch import Tensor

    from phi3kit.export import Program
    from phi3kit.families import Backend, Quantizer, Tokenizer
    from phi3kit.model import Decoder
    from phi3kit.model.engine import Engine
    from phi3kit.records import Conversation

BLOCK, HELDOUT_TOKENS = 256, 2048  # of held-out text that the program reads token by token
LONGEST_ANSWER = 128  # tokens, in the closing conversation


def declare(parser: ArgumentParser) -> None:
    """The keys of an export recipe."""
    from phi3kit.families import Backend, Quantizer

    parser.add_argument("--start_from", type=Path, help="run folder to export")
    parser.add_argument("--name", type=str, help="what the model is called; the program is phi4_NAME.pte")
    parser.add_argument("--quantizer", type=Quantizer | None, default=None, help="null exports float32 weights")
    parser.add_argument("--backend", type=Backend | None, default=None, help="null means XNNPACK")
    parser.add_argument("--context", type=int | None, default=None, help="tokens of a conversation; null: net's")
    parser.add_argument(
        "--heldout", type=Path | None, default=None, help="folder of token chunks to measure lost quality on"
    )
    parser.add_argument(
        "--questions", type=dict[str, Path] | None, default=None, help="files of conversations to answer exactly"
    )
    parser.add_argument(
        "--beside", type=dict[str, Path] | None, default=None, help="runs whose answers are scored beside"
    )
    parser.add_argument("--talk", type=list[str] | None, default=None, help="turns of a conversation to end with")


def main(arguments: list[str], *, summary: bool = True) -> int:
    """Run the verb; `phi3kit run` prints the summary itself, of all steps."""
    recipe = recipes.read("export", declare, arguments, __doc__)
    report = export(recipe)
    if summary:
        show(report)
        print(f"bundle: {recipe.out}")
    return 0


def quantized(run: Path, quantizer: Quantizer | None, context: int | None) -> Program:
    """A run's net, quantized, as the program that is lowered and that the lowered one is compared with."""
    from phi3kit.export import Program
    from phi3kit.model.load import load_run

    net = load_run(run).float()
    if quantizer is not None:
        quantizer.quantize(net)
    return Program(net, net.dims.context if context is None else context)


@dataclass(frozen=True)
class Order:
    """What a recipe asks for, read and checked before the slow work begins.

    Args:
        run: folder of the run.
        net: its float net.
        tokenizer: its tokenizer.
        quantizer: None leaves the weights as they are.
        backend: lowers the program.
        blocks: held-out text, ids of each block.
        asked: conversations to answer exactly, by name.
        beside: other nets to ask them, by name, each with its tokenizer.
        talk: turns of the closing conversation.
    """

    run: Path
    net: Decoder
    tokenizer: Tokenizer
    quantizer: Quantizer | None
    backend: Backend
    blocks: list[Tensor]
    asked: Mapping[str, list[Conversation]]
    beside: Mapping[str, tuple[Decoder, Tokenizer]]
    talk: list[str]

    def seconds(self) -> dict[str, float]:
        """About how long each stage takes on two laptop cores, from what grows with the net."""
        layers, share = self.net.dims.n_layers, self.net.parameter_count() / 3e6
        answers = sum(map(len, self.asked.values())) * (2 + len(self.beside))
        seconds = {"quantize": 2 + share, "lower": 4 + 6.5 * layers, "prove": 4 + layers * (1 + share)}
        optional: dict[str, tuple[Any, float]] = {
            "held-out text": (self.blocks, 1 + share),
            "questions": (self.asked, 1 + 0.004 * answers * (0.3 + share)),
            "talk": (self.talk, 1 + share),
        }
        return seconds | {name: cost for name, (wanted, cost) in optional.items() if wanted}


def read_order(recipe: Recipe) -> Order:
    """Check and load everything the recipe names. Raises `UserError`."""
    from phi3kit.export import XNNPACK, assemble, workplace
    from phi3kit.text import read_conversations

    config, objects = recipe.config, recipe.instantiate()
    for key in ("start_from", "name"):
        if config.get(key) is None:
            raise UserError(f"the recipe lacks {key}")
    if config.beside and not config.questions:
        raise UserError("beside names runs to ask the questions, but there are no questions; add some or leave it out")
    workplace.check_target(recipe.out)
    assemble.model_file(config.name)
    net, tokenizer = _load(config.start_from, "start_from")
    size = min(BLOCK, config.context or net.dims.context)
    return Order(
        run=config.start_from,
        net=net,
        tokenizer=tokenizer,
        quantizer=objects.quantizer,
        backend=objects.backend or XNNPACK(),
        blocks=list(_blocks(config.heldout, size, HELDOUT_TOKENS // size)) if config.heldout else [],
        asked={name: read_conversations(path) for name, path in (config.questions or {}).items()},
        beside={name: _load(run, f"beside.{name}") for name, run in (config.beside or {}).items()},
        talk=config.talk or [],
    )


def _load(run: Path, key: str) -> tuple[Decoder, Tokenizer]:
    from phi3kit.model.load import load_run
    from phi3kit.text import load_tokenizer

    if not run.is_dir():
        raise UserError(f"{key}: there is no run at {run}")
    return load_run(run).float(), load_tokenizer(run / "tokenizer")


def _blocks(folder: Path, size: int, count: int) -> Iterator[Tensor]:
    """At most `count` blocks, spread over a folder of token chunks."""
    import torch

    from phi3kit.phases.token_stream import litdata_blocks

    blocks: Any = litdata_blocks(folder, size)
    step = max(1, len(blocks) // count)
    for number in range(0, min(len(blocks), step * count), step):
        yield torch.as_tensor(blocks[number]).to(torch.int64)


def export(recipe: Recipe) -> dict[str, Any]:
    """Export as the recipe says; returns the report that is also in the bundle."""
    from phi3kit import bundle
    from phi3kit.export import assemble, metadata, trace, workplace
    from phi3kit.export.report import closing, headline
    from phi3kit.export.stages import Stages
    from phi3kit.serve import BundleEngine
    from phi3kit.text import stop_ids

    order = read_order(recipe)
    stages = Stages(order.seconds())
    stages.begin("quantize")
    program = quantized(order.run, order.quantizer, recipe.config.context)
    constants = metadata(program, eos_ids=stop_ids(order.tokenizer), bos_id=_bos(order.tokenizer))
    stages.begin("lower")
    pte = order.backend.lower(trace(program), constants)
    partial = workplace.fresh(recipe.out)
    model = assemble.write_files(partial, recipe.config.name, pte, order.tokenizer)
    stages.begin("prove")
    promise = {"constants": constants, "delegates": sorted(order.backend.delegates)}
    report: dict[str, Any] = {
        "bytes": {"program": len(pte), "float32_weights": assemble.float_bytes(order.net)},
        "verification": _prove(partial, model, promise, order, program),
    }
    report |= _measure(order, BundleEngine(model), stages)
    stages.end()
    report |= {"seconds": stages.took, "headline": headline(report), "closing": closing(report, model.name)}
    bundle.write(partial / "report.json", bundle.as_json(report))
    about = assemble.describe(
        recipe.config.name,
        program,
        order.tokenizer,
        sizes=report["bytes"],
        quantizer=order.quantizer.describe() if order.quantizer else None,
        backend=type(order.backend).__name__,
        origin=assemble.origin(order.run, recipe.text()),
    )
    bundle.seal(partial, about | {"program": promise})
    workplace.finish(partial, recipe.out)
    return report


def _bos(tokenizer: Tokenizer) -> int | None:
    return None if tokenizer.opens_with is None else tokenizer.special_tokens[tokenizer.opens_with]


def _prove(partial: Path, model: Path, promise: dict[str, Any], order: Order, program: Program) -> dict[str, Any]:
    """The proof, printed. Raises `UserError` where it fails; what failed is left for a look."""
    from phi3kit import bundle
    from phi3kit.export.assemble import TOKENIZER
    from phi3kit.verbs.verify import faults, prove, table

    some = next(iter(order.asked.values()), [])
    texts = [message.content for chat in some for message in chat.messages if message.role == "user"]
    proof = prove(model, partial / TOKENIZER, promise, order.tokenizer, program, texts)
    print("\n".join(table(proof)), flush=True)
    if wrong := faults(proof):
        bundle.write(partial / "report.json", bundle.as_json({"verification": proof}))
        raise UserError(
            f"the program does not compute what the quantized net does: {wrong[0]}; nothing was exported, "
            f"{partial} holds what failed"
        )
    return proof


def _measure(order: Order, engine: Engine, stages: Any) -> dict[str, Any]:
    """What the program is worth: quality on text, exact answers, a conversation."""
    from phi3kit.export.quality import compare_on_text

    report: dict[str, Any] = {}
    if order.blocks:
        stages.begin("held-out text")
        report["heldout"] = compare_on_text(order.net, engine, order.blocks)
    if order.asked:
        stages.begin("questions")
        report["questions"] = {name: _score(order, engine, name) for name in order.asked}
    if order.talk:
        stages.begin("talk")
        report["conversation"] = _talk(engine, order.tokenizer, order.talk)
    return report


def _score(order: Order, engine: Engine, name: str) -> dict[str, Any]:
    """Share of exact answers to one set of questions: float net, program, and the nets beside."""
    from phi3kit.export.answers import questions, share_of_engine, share_of_net

    own = questions(order.asked[name], order.tokenizer)
    exact = {
        "float": share_of_net(order.net, own, order.tokenizer),
        "program": share_of_engine(engine, own, order.tokenizer),
    }
    for other, (net, tokenizer) in order.beside.items():
        exact[other] = share_of_net(net, questions(order.asked[name], tokenizer), tokenizer)
    found = ", ".join(f"{model} {share:.1%}" for model, share in exact.items())
    print(f"  {name}: {len(own)} questions, {found}", flush=True)
    return {"questions": len(own), "exact": exact}


def _talk(engine: Engine, tokenizer: Tokenizer, turns: list[str]) -> list[dict[str, Any]]:
    """A conversation with the program; each turn reads only what is new."""
    from phi3kit.serve import Chat

    chat = Chat(engine, tokenizer, max_new_tokens=LONGEST_ANSWER)
    held = []
    for text in turns:
        before, new = engine.position, len(chat.ids_of(text))
        held.append({"you": text, "answer": "".join(chat.ask(text)), "tokens_before": before, "tokens_read": new})
    return held
