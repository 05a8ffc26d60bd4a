"""``phi3kit export``: a run or a public checkpoint -> a quantized ExecuTorch program in a bundle, and its proof.

The weights are read, quantized and released part by part, whatever the size of the model. The bundle is built in
``OUT.partial`` and takes its name only when everything in it has been proven; what is quantized stays there until then,
and an export that was stopped goes on from it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.recipe import Recipe
from phi3kit.verbs import proof_page
from phi3kit.verbs.alone import alone
from phi3kit.verbs.export_order import Order, read_order
from phi3kit.verbs.export_proof import APART, ToProve, proof_apart
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from torch import Tensor

    from phi3kit.export import Program
    from phi3kit.export.program import AtEnd
    from phi3kit.export.proof import Proof
    from phi3kit.export.stores import CacheType
    from phi3kit.export.vision import VisionPrograms
    from phi3kit.families import Backend, Programs, Quantizer, Tokenizer
    from phi3kit.model import Decoder
    from phi3kit.model.engine import Engine
    from phi3kit.model.source import Source

LONGEST_ANSWER = 128  # tokens, in the closing conversation


def declare(parser: ArgumentParser) -> None:
    """The keys of an export recipe."""
    from phi3kit.families import Backend, Quantizer

    parser.add_argument("--start_from", type=Path, help="run folder, or public checkpoint folder")
    parser.add_argument("--random", type=int | None, default=None, help="seed of random weights, in place of a folder")
    parser.add_argument("--net", type=dict | None, default=None, help="the net of random weights")
    parser.add_argument("--tokenizer", type=Path | None, default=None, help="tokenizer folder; null: start_from's own")
    parser.add_argument("--name", type=str, help="what the model is called; the program is phi4_NAME.pte")
    parser.add_argument("--quantizer", type=Quantizer | None, default=None, help="null exports float32 weights")
    parser.add_argument("--backend", type=Backend | None, default=None, help="null means XNNPACK")
    parser.add_argument(
        "--context", type=int | None, default=None, help="tokens of a conversation; null: net's, at most 4096"
    )
    parser.add_argument(
        "--cache",
        type=Literal["float", "int8"] | None,
        default=None,
        help="how keys and values are kept; null: int8 where the context is above 1024 tokens",
    )
    parser.add_argument(
        "--at_end",
        type=Literal["fail", "slide"],
        default="fail",
        help="a conversation that reaches the context fails, or goes on with what is left of it",
    )
    parser.add_argument(
        "--crops",
        type=tuple[int, int],
        default=(2, 2),
        help="rows and columns of crops of every image, of nets with vision",
    )
    parser.add_argument(
        "--max_size", "--max-size", type=str | None, default=None, help='of the program, "2.3GB": MixedPrecision'
    )
    parser.add_argument(
        "--calibration",
        type=Path | None,
        default=None,
        help="what quantizers are fitted to: a folder of token chunks, or JSONL of documents or conversations",
    )
    parser.add_argument("--calibration_tokens", type=int, default=8192, help="how much of it is read")
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
    with alone(recipe.out):
        report = export(recipe)
    if summary:
        show(report)
        print(f"bundle: {recipe.out}")
    return 0


def quantized(
    source: Source,
    quantizer: Quantizer | None,
    context: int | None,
    cache: CacheType | None = None,
    at_end: AtEnd = "fail",
    text: Sequence[Tensor] = (),
) -> Program:
    """The quantized net as the program that a lowered one is compared with.

    Args:
        source: the float weights.
        quantizer: None leaves them as they are.
        context: tokens of a conversation; None: the net's.
        cache: how keys and values are kept; None: as the context asks for.
        at_end: what becomes of a conversation that reaches the context.
        text: what the quantizer is fitted to, ids of each row.
    """
    from phi3kit.export import Program
    from phi3kit.export.program import context_of
    from phi3kit.export.stream import Stream
    from phi3kit.export.survey import survey

    if quantizer is not None and quantizer.surveys:
        survey(source, quantizer, text)
    with tempfile.TemporaryDirectory() as folder:  # its files may go: their pages stay as long as the net
        net = Stream(source, quantizer, Path(folder), text).run()
    return Program(net, context_of(net, context), cache, at_end)


def export(recipe: Recipe) -> dict[str, Any]:
    """Export as the recipe says; returns the report that is also in the bundle."""
    from phi3kit import bundle
    from phi3kit.export import Program, apps, assemble, metadata, trace, workplace
    from phi3kit.export.device import notes
    from phi3kit.export.lowering_steps import followed
    from phi3kit.export.program import context_of
    from phi3kit.export.pte import cannot_run
    from phi3kit.export.released import give_back
    from phi3kit.export.report import closing, headline
    from phi3kit.export.room import peak_memory, room_for
    from phi3kit.export.stages import Stages
    from phi3kit.export.stream import FOLDER, Stream
    from phi3kit.export.survey import survey
    from phi3kit.export.vision import VisionPrograms
    from phi3kit.text import stop_ids

    order = read_order(recipe)
    room = room_for(order.source.section, order.quantizer, order.context, order.backend.copies)
    print(f"export {order.source.says}: {room}", flush=True)
    room.check(recipe.out, there=workplace.kept_bytes(recipe.out, FOLDER))
    stages = Stages(order.seconds())
    stages.begin("quantize")
    if order.quantizer is not None and order.quantizer.surveys:
        survey(order.source, order.quantizer, order.calibration)
    stream = Stream(order.source, order.quantizer, workplace.partial_of(recipe.out) / FOLDER, order.calibration)
    partial = workplace.begin(recipe.out, keep=FOLDER)  # nothing is written before everything has been checked
    net = stream.run(stages.within)
    if stream.reused:
        print(f"  {stream.reused} parts were quantized already, from the same weights in the same way", flush=True)
    context = context_of(net, order.context)
    program = Program(net, context, order.cache, order.at_end, form=order.backend.form)
    vision = None if net.vision_embed_tokens is None else VisionPrograms.of(program, order.crops)
    for note in notes(net):
        print(f"  {note}", flush=True)
    constants = metadata(program, eos_ids=stop_ids(order.tokenizer), bos_id=_bos(order.tokenizer))
    stages.begin("lower")
    model = partial / assemble.model_file(recipe.config.name)
    traced: Programs = trace(program) if vision is None else vision.trace(program)
    with stages.aloud(), followed(stages.within):
        _write(order.backend, traced, constants, model, stream.forget)
    del traced
    give_back()  # graphs hold one another, and the packed weights
    assemble.write_tokenizer(partial, order.tokenizer)
    promise = {"constants": constants, "delegates": sorted(order.backend.delegates)}
    about = _about(recipe, order, program, vision, model) | {"program": promise}
    bundle.write(partial / apps.FILE, apps.instructions(about, bundle.sha256(model)).encode())
    lowering_peak = peak_memory()
    stages.begin("prove")
    proof, proof_peak = _prove(partial, about, order, program, vision)
    report: dict[str, Any] = {
        "bytes": about["bytes"],
        "peak_memory": {"export": lowering_peak, "proof": proof_peak},
        "verification": proof_page.document(about, proof),
    }
    if cannot := cannot_run(model):
        print(f"  nothing is measured: {cannot}", flush=True)
    else:
        report |= _measure(order, program, model, stages, stream.forget)
    stages.end()
    report |= {"seconds": stages.took, "headline": headline(report, proof), "closing": closing(report, model.name)}
    bundle.write(partial / "report.json", bundle.as_json(report))
    proof_page.write(partial, report["verification"])
    workplace.sweep(partial, FOLDER)
    bundle.seal(partial, about, proven=proof["files"]["sha256"])
    workplace.finish(partial, recipe.out)
    return report


def _about(
    recipe: Recipe, order: Order, program: Program, vision: VisionPrograms | None, model: Path
) -> dict[str, Any]:
    """What bundle.json says, without the program's interface and the files."""
    from phi3kit.export import assemble
    from phi3kit.export.device import notes

    about = assemble.describe(
        recipe.config.name,
        program,
        order.tokenizer,
        sizes={"program": model.stat().st_size, "float32_weights": 4 * order.source.net.parameter_count()},
        quantizer=order.quantizer.describe() if order.quantizer else None,
        backend=type(order.backend).__name__,
        origin=assemble.origin(order.source, recipe.text()),
    )
    said = [*notes(program.net), *filter(None, [order.backend.note])]
    return about | {"notes": said} | ({} if vision is None else {"vision": vision.describe()})


def _write(
    backend: Backend,
    traced: Programs,
    constants: dict[str, Any],
    model: Path,
    release: Callable[[], None],
) -> None:
    """Lower a program into its file. Raises `UserError` where the disk is full."""
    try:
        backend.write(traced, constants, model, release)
    except OSError as error:
        raise UserError(f"cannot write {model}: {error.strerror}; free some space and export again") from error


def _bos(tokenizer: Tokenizer) -> int:
    """What a text begins with, for a runner that is asked for it: ours never is."""
    from phi3kit.text.template import end_of_text_id

    opening = tokenizer.opens_with
    return end_of_text_id(tokenizer) if opening is None else tokenizer.special_tokens[opening]


def _prove(
    partial: Path, about: dict[str, Any], order: Order, program: Program, vision: VisionPrograms | None
) -> tuple[Proof, int]:
    """The proof, printed, and its peak of memory. Raises `UserError` where it fails; what failed is left for a look."""
    from phi3kit import bundle
    from phi3kit.export.proof import files_point
    from phi3kit.export.room import peak_memory
    from phi3kit.verbs.verify import prove

    hashes = {file.name: bundle.sha256(file) for file in sorted(partial.iterdir()) if file.is_file()}
    some = next(iter(order.asked.values()), [])
    texts = [message.content for chat in some for message in chat.messages if message.role == "user"]
    if about["bytes"]["float32_weights"] < APART:
        model, tokenizer = partial / about["model"], partial / about["tokenizer"]
        proof = prove(model, tokenizer, about["program"], order.tokenizer, program, texts, vision)
        peak = peak_memory()
    else:
        proof, peak = proof_apart(_to_prove(partial, about, order, texts))
    proof |= [files_point(hashes)]
    print("\n".join(proof.lines()), flush=True)
    if proof.faults:
        content = proof_page.document(about, proof)
        bundle.write(partial / "report.json", bundle.as_json({"verification": content}))
        proof_page.write(partial, content)
        raise UserError(
            f"the program does not compute what the quantized net does: {proof.faults[0]}; nothing was exported, "
            f"{partial / proof_page.PAGE} shows what failed"
        )
    return proof, peak


def _to_prove(partial: Path, about: dict[str, Any], order: Order, texts: list[str]) -> ToProve:
    from phi3kit.export.stream import FOLDER

    return ToProve(
        model=partial / about["model"],
        device_tokenizer=partial / about["tokenizer"],
        promise=about["program"],
        tokenizer=order.tokenizer,
        texts=texts,
        section=order.source.section,
        kept=partial / FOLDER,
        context=order.context,
        cache=order.cache,
        at_end=order.at_end,
        crops=order.crops,
    )


def _measure(order: Order, program: Program, model: Path, stages: Any, forget: Callable[[], None]) -> dict[str, Any]:
    """What the program is worth: quality on text, exact answers, a conversation; of random weights, their errors.

    The program, the quantized net and the float net are in memory one after the other.

    Args:
        order: what is asked of them.
        program: the quantized net.
        model: the `.pte`.
        stages: hears what begins.
        forget: gives the quantized net's pages back.
    """
    from phi3kit.export.float_reference import block_errors
    from phi3kit.export.released import released
    from phi3kit.serve import BundleEngine

    def measured(stage: str, work: Callable[[], Any]) -> Any:
        stages.begin(stage)
        return released(work)

    def open_engine() -> Engine:
        forget()
        return BundleEngine(model)

    report: dict[str, Any] = {}
    if order.source.path is None:
        ids = order.blocks or _any_ids(program)
        report["block_errors"] = measured("blocks", lambda: block_errors(order.source, program.net, ids))
    if order.blocks:
        report["heldout"] = measured("held-out text", lambda: _on_text(order, program, open_engine, model.parent))
    if order.asked:
        report["questions"] = measured("questions", lambda: _scores(order, program, open_engine))
    if order.talk:
        report["conversation"] = measured("talk", lambda: _talk(open_engine(), order.tokenizer, order.talk))
    return report


def _any_ids(program: Program) -> list[Tensor]:
    """Two rows of ids, evenly spread, for a net whose words mean nothing."""
    import torch

    length = min(64, program.context)
    return list(torch.linspace(0, program.net.dims.vocab_size - 1, 2 * length).long().view(2, length))


def _on_text(order: Order, program: Program, open_engine: Callable[[], Engine], partial: Path) -> dict[str, Any]:
    """What quantization cost on held-out text; the float net's logits wait on disk beside the program."""
    from phi3kit.export import quality
    from phi3kit.export.float_reference import float_logits
    from phi3kit.export.released import released

    rows, vocab_size = order.blocks, program.net.dims.vocab_size
    with tempfile.TemporaryDirectory(dir=partial) as folder:
        file = Path(folder) / "float_logits"
        wanted = released(lambda: quality.kept(float_logits(order.source, rows), rows, vocab_size, file))
        columns: dict[str, quality.Logits] = {
            "quantized": lambda: quality.of_net(program, rows),
            "program": lambda: quality.of_engine(open_engine, rows),
        }
        return quality.compare_on_text(wanted, columns, rows)


def _scores(order: Order, program: Program, open_engine: Callable[[], Engine]) -> dict[str, Any]:
    """Shares of exact answers to each set of questions: float net, quantized net, program, and the nets beside.

    A large float net, which would have to be whole in memory, is not asked.
    """
    from phi3kit.export.answers import questions, share_of_engine, share_of_net
    from phi3kit.export.released import released
    from phi3kit.export.verify import LARGE

    def of_program() -> dict[str, float]:
        engine, own = open_engine(), order.tokenizer
        return {name: share_of_engine(engine, questions(chats, own), own) for name, chats in order.asked.items()}

    def of_net(net: Decoder, its: Tokenizer) -> dict[str, float]:
        return {name: share_of_net(net, questions(chats, its), its) for name, chats in order.asked.items()}

    said = released(of_program)
    shares, count = {}, program.net.parameter_count()
    if count <= LARGE:
        shares["float"] = of_net(order.net, order.tokenizer)
    else:
        print(f"  the float net is not asked: it would take {4 * count / 1e9:.1f} GB of memory", flush=True)
    shares |= {"quantized": of_net(program.net, order.tokenizer), "program": said}
    shares |= {other: of_net(net, its) for other, (net, its) in order.beside.items()}
    report = {}
    for name, chats in order.asked.items():
        exact = {column: share[name] for column, share in shares.items()}
        found = ", ".join(f"{column} {share:.1%}" for column, share in exact.items())
        print(f"  {name}: {len(chats)} questions, {found}", flush=True)
        report[name] = {"questions": len(chats), "exact": exact}
    return report


def _talk(engine: Engine, tokenizer: Tokenizer, turns: list[str]) -> list[dict[str, Any]]:
    """A conversation with the program; each turn reads only what is new."""
    from phi3kit.serve import Chat

    chat = Chat(engine, tokenizer, max_new_tokens=LONGEST_ANSWER)
    held = []
    for text in turns:
        before, new = engine.position, len(chat.ids_of(text))
        held.append({"you": text, "answer": "".join(chat.ask(text)), "tokens_before": before, "tokens_read": new})
    return held
