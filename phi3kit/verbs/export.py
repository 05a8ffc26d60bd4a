"""``phi3kit export``: a trained run -> a quantized ExecuTorch program in a bundle, and its proof.

The bundle is built in ``OUT.partial`` and takes its name only when everything in it has been proven.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.recipe import Recipe

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from torch import Tensor

    from phi3kit.export import Program
    from phi3kit.families import Quantizer, Tokenizer
    from phi3kit.model import Decoder
    from phi3kit.model.engine import Engine
    from phi3kit.records import Conversation

BLOCK, HELDOUT_TOKENS = 256, 2048  # of held-out text that the program reads token by token


def declare(parser: ArgumentParser) -> None:
    """The keys of an export recipe."""
    from phi3kit.families import Backend, Quantizer

    parser.add_argument("--start_from", type=Path, help="run folder to export")
    parser.add_argument("--name", type=str, help="what the model is called; the program is phi4_NAME.pte")
    parser.add_argument("--quantizer", type=Quantizer | None, default=None, help="null exports float32 weights")
    parser.add_argument("--backend", type=Backend | None, default=None, help="null means XNNPACK")
    parser.add_argument("--context", type=int | None, default=None, help="tokens of a conversation; null: the net's")
    parser.add_argument(
        "--heldout",
        type=Path | None,
        default=None,
        help="folder of token chunks to measure the loss of quality on",
    )
    parser.add_argument(
        "--questions", type=dict[str, Path] | None, default=None, help="files of conversations to answer exactly"
    )
    parser.add_argument(
        "--beside", type=dict[str, Path] | None, default=None, help="runs whose answers are scored beside"
    )
    parser.add_argument("--talk", type=list[str] | None, default=None, help="turns of a conversation to end with")


def main(arguments: list[str]) -> int:
    """Run the verb."""
    export(recipes.read("export", declare, arguments, __doc__))
    return 0


def quantized(run: Path, quantizer: Quantizer | None, context: int | None) -> Program:
    """A run's net, quantized, as the program that is lowered and that the lowered one is compared with."""
    from phi3kit.export import Program
    from phi3kit.model.load import load_run

    net = load_run(run).float()
    if quantizer is not None:
        quantizer.quantize(net)
    return Program(net, net.dims.context if context is None else context)


class Stages:
    """Says what is being done, and about how long the rest takes.

    Args:
        seconds: of each stage to come, in order, by name.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._done = seconds, 0
        self.took: dict[str, float] = {}
        self._started: tuple[str, float] | None = None

    def begin(self, name: str) -> None:
        """The stage before ends, this one begins."""
        self.end()
        left = sum(list(self._seconds.values())[self._done :])
        self._done += 1
        print(f"export [{self._done}/{len(self._seconds)}] {name}  (about {left:.0f} s left)", flush=True)
        self._started = (name, time.perf_counter())

    def end(self) -> None:
        """The last stage ends."""
        if self._started is not None:
            name, begin = self._started
            self.took[name] = round(time.perf_counter() - begin, 1)


def export(recipe: Recipe) -> dict[str, Any]:
    """Export as the recipe says; returns the report that is also in the bundle."""
    from phi3kit import bundle
    from phi3kit.export import assemble, metadata, trace
    from phi3kit.export.report import closing, headline
    from phi3kit.export.xnnpack import XNNPACK
    from phi3kit.model.load import load_run
    from phi3kit.serve import BundleEngine
    from phi3kit.text import load_tokenizer, stop_ids
    from phi3kit.verbs.verify import faults, prove, table

    config, objects = recipe.config, recipe.instantiate()
    for key in ("start_from", "name"):
        if config.get(key) is None:
            raise UserError(f"the recipe lacks {key}")
    out, run = recipe.out, Path(config.start_from)
    _check_target(out)
    assemble.model_file(config.name)
    tokenizer = load_tokenizer(run / "tokenizer")
    asked = _conversations(config.questions)
    net, backend = load_run(run).float(), objects.backend or XNNPACK()
    stages = Stages(_estimate(net, asked, config))

    stages.begin("quantize")
    program = quantized(run, objects.quantizer, config.context)
    bos = tokenizer.special_tokens[tokenizer.opens_with] if tokenizer.opens_with else None
    constants = metadata(program, eos_ids=stop_ids(tokenizer), bos_id=bos)
    expected = {"constants": constants, "delegates": sorted(backend.delegates)}
    stages.begin("lower")
    pte = backend.lower(trace(program), constants)
    partial = _fresh(out)
    model = assemble.write_files(partial, config.name, pte, tokenizer)
    sizes = {"program": len(pte), "float32_weights": assemble.float_bytes(net)}

    stages.begin("prove")
    texts = [m.content for c in asked.get(next(iter(asked), ""), []) for m in c.messages if m.role == "user"]
    proof = prove(model, partial / assemble.TOKENIZER, expected, tokenizer, program, texts)
    print("\n".join(table(proof)))
    if faults(proof):
        bundle.write(partial / "report.json", bundle.as_json({"verification": proof}))
        raise UserError(
            f"the program does not compute what the quantized net does: {faults(proof)[0]}; nothing was exported, "
            f"{partial} holds what failed"
        )
    report: dict[str, Any] = {"bytes": sizes, "verification": proof}
    engine = BundleEngine(model)
    if config.heldout:
        stages.begin("held-out text")
        report["heldout"] = _heldout(net, engine, config.heldout)
    if asked:
        stages.begin("questions")
        report["questions"] = _score(net, engine, tokenizer, asked, config.beside or {})
    if config.talk:
        stages.begin("talk")
        report["conversation"] = _talk(engine, tokenizer, config.talk)
    stages.end()
    report["seconds"] = stages.took
    report["headline"] = headline(report)
    report["closing"] = closing(report, model.name)
    bundle.write(partial / "report.json", bundle.as_json(report))
    about = assemble.describe(
        config.name,
        program,
        tokenizer,
        sizes=sizes,
        quantizer=objects.quantizer.describe() if objects.quantizer else None,
        backend=type(backend).__name__,
        origin={
            "run": str(run),
            "weights_sha256": assemble.weights_hash(run),
            "export": recipe.text(),
            "net": (run / "config.yaml").read_text(),
        },
    )
    bundle.seal(partial, about | {"program": expected})
    _replace(partial, out)
    print("\n".join([*report["headline"], *report["closing"], f"bundle: {out}"]))
    return report


def _check_target(out: Path) -> None:
    """What is at `out` may only be an older bundle."""
    from phi3kit import bundle

    if out.exists() and not bundle.is_bundle(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already and is no bundle; give another --out or remove it")


def _fresh(out: Path) -> Path:
    """An empty folder beside `out` to build in; a killed export's is swept away."""
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}; give another --out") from error
    return partial


def _replace(partial: Path, out: Path) -> None:
    """Give the finished bundle its name; an older one makes way only then."""
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)


def _conversations(files: dict[str, Path] | None) -> dict[str, list[Conversation]]:
    from phi3kit.text import read_conversations

    return {name: read_conversations(Path(path)) for name, path in (files or {}).items()}


def _estimate(net: Decoder, asked: dict[str, list[Conversation]], config: Any) -> dict[str, float]:
    """Seconds of each stage on two laptop cores, from what grows with the net."""
    layers, share = net.dims.n_layers, net.parameter_count() / 3e6
    count = sum(map(len, asked.values())) * (2 + len(config.beside or {}))
    seconds: dict[str, float] = {"quantize": 3 + share, "lower": 4 + 6.5 * layers, "prove": 4 + layers * (1 + share)}
    optional = {
        "held-out text": (config.heldout, 1 + share),
        "questions": (asked, 1 + 0.004 * count * (0.3 + share)),
        "talk": (config.talk, 1 + share),
    }
    return seconds | {name: cost for name, (wanted, cost) in optional.items() if wanted}


def _heldout(net: Decoder, engine: Engine, folder: Path) -> dict[str, Any]:
    """Quality on the beginning of held-out tokens."""
    from phi3kit.export.quality import compare_on_text

    size = min(BLOCK, engine.context)
    return compare_on_text(net, engine, _blocks(folder, size, max(1, HELDOUT_TOKENS // size)))


def _blocks(folder: Path, size: int, count: int) -> Iterator[Tensor]:
    """At most `count` blocks, spread over the folder."""
    import torch

    from phi3kit.phases.token_stream import litdata_blocks

    blocks: Any = litdata_blocks(folder, size)
    step = max(1, len(blocks) // count)
    for number in range(0, min(len(blocks), step * count), step):
        yield torch.as_tensor(blocks[number]).to(torch.int64)


def _score(
    net: Decoder,
    engine: Engine,
    tokenizer: Tokenizer,
    asked: dict[str, list[Conversation]],
    beside: dict[str, Path],
) -> dict[str, Any]:
    """Share of exact answers for each set of questions: float net, program, and the runs beside."""
    from phi3kit.export.answers import questions, share_of_engine, share_of_net
    from phi3kit.model.load import load_run
    from phi3kit.text import load_tokenizer

    others = {name: (load_run(Path(run)), load_tokenizer(Path(run) / "tokenizer")) for name, run in beside.items()}
    report = {}
    for name, conversations in asked.items():
        own = questions(conversations, tokenizer)
        exact = {"float": share_of_net(net, own, tokenizer), "program": share_of_engine(engine, own, tokenizer)}
        for other, (other_net, its) in others.items():
            exact[other] = share_of_net(other_net, questions(conversations, its), its)
        report[name] = {"questions": len(own), "exact": exact}
        print(f"  {name}: {len(own)} questions, " + ", ".join(f"{k} {v:.1%}" for k, v in exact.items()), flush=True)
    return report


def _talk(engine: Engine, tokenizer: Tokenizer, turns: list[str]) -> list[dict[str, Any]]:
    """A conversation with the program; each turn reads only what is new."""
    from phi3kit.serve import Chat

    chat = Chat(engine, tokenizer, max_new_tokens=128)
    held = []
    for text in turns:
        before, new = engine.position, len(chat.ids_of(text))
        held.append({"you": text, "answer": "".join(chat.ask(text)), "tokens_before": before, "tokens_read": new})
    return held
