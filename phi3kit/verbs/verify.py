"""``phi3kit verify BUNDLE``: prove a bundle again.

Its files are checked against their sha256, its tokenizer and interface by themselves, and its program against the
quantized net rebuilt from the run it was made from, where that run is still there and unchanged.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit.errors import UserError

if TYPE_CHECKING:
    from phi3kit.bundle import Bundle
    from phi3kit.export import Program
    from phi3kit.export.vision import VisionPrograms
    from phi3kit.families import Tokenizer

PROMPTS = 20  # TextLLMRunner answers so many


def main(arguments: list[str]) -> int:
    """Run the verb; 1 if a check found a fault."""
    parser = argparse.ArgumentParser(prog="phi3kit verify", description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder that `phi3kit export` wrote")
    parser.add_argument("--run", type=Path, help="run folder it was made from; default: as its recipe says")
    options = parser.parse_args(arguments)
    from phi3kit import bundle

    found = bundle.read(options.bundle)
    print(f"{options.bundle}: all {len(found.about['files'])} files are what they were")
    reference, tokenizer, missing = _origin(found, options.run)
    if missing:
        print(f"not compared with the quantized net: {missing}")
    vision = None
    if reference is not None and reference.net.vision_embed_tokens is not None:
        from phi3kit.export.vision import VisionPrograms

        vision = VisionPrograms.of(reference, tuple(found.about["vision"]["crops"]))
    report = prove(found.model, found.tokenizer, found.about["program"], tokenizer, reference, [], vision)
    print("\n".join(table(report)))
    return 1 if faults(report) else 0


def prove(
    model: Path,
    device_tokenizer: Path,
    expected: dict[str, Any],
    tokenizer: Tokenizer,
    reference: Program | None,
    texts: Sequence[str],
    vision: VisionPrograms | None = None,
) -> dict[str, Any]:
    """Every check there is; each has its numbers and its ``faults``.

    Args:
        model: the `.pte`.
        device_tokenizer: the bundle's tokenizer.json.
        expected: constant methods under "constants", allowed delegates under "delegates".
        tokenizer: the model's own.
        reference: the quantized net, run eagerly; None leaves the program itself unchecked.
        texts: what users ask, for prompts; 20 of phi3kit's own are added where there are fewer.
        vision: the other methods of a net that sees, run eagerly.
    """
    from phi3kit.export.device_text import check_device_text
    from phi3kit.export.samples import AWKWARD
    from phi3kit.export.samples import PROMPTS as OWN
    from phi3kit.export.verify import check_metadata, check_program
    from phi3kit.export.vision_runner import check_vision
    from phi3kit.records import Message
    from phi3kit.serve import BundleEngine
    from phi3kit.text.template import render

    constants = expected["constants"]
    report: dict[str, Any] = {
        "interface": check_metadata(model, constants, frozenset(expected["delegates"])),
        "tokenizer": check_device_text(
            device_tokenizer, tokenizer, [*texts, *OWN, *AWKWARD], constants["get_vocab_size"]
        ),
    }
    if reference is not None:
        asked = [*_spread(texts, PROMPTS), *OWN, *AWKWARD]
        prompts = [render([Message("user", text)], tokenizer, generation=True).ids for text in asked]
        fitting = [ids for ids in prompts if 3 * len(ids) < reference.context][:PROMPTS]
        report |= check_program(model, BundleEngine(model), reference, fitting, constants["get_eos_ids"])
        if vision is not None:
            report["vision"] = check_vision(model, vision, tokenizer, report["activation_step"])
    return report


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """At most `count` of the texts, evenly spaced."""
    return list(dict.fromkeys(texts[i * len(texts) // count] for i in range(count))) if texts else []


def faults(report: dict[str, Any]) -> list[str]:
    """Everything a proof found wrong, each with its check's name."""
    return [
        f"{name}: {fault}" for name, check in report.items() if isinstance(check, dict) for fault in check["faults"]
    ]


def table(report: dict[str, Any]) -> list[str]:
    """The proof in lines for people."""
    lines = [
        f"interface     {len(report['interface']['constants'])} constant methods, delegates "
        f"{', '.join(report['interface']['delegates']) or 'none'}",
        f"tokenizer     {report['tokenizer']['texts']} texts: the device's ids and streamed text are the model's",
    ]
    if "logits" in report:
        logits, runner = report["logits"], report["runner"]
        lines += [
            f"logits        {logits['positions']} positions, teacher-forced: largest difference "
            f"{logits['largest_difference']:.2g} (one activation step: {report['activation_step']:.2g}; "
            f"standard deviation: {logits['standard_deviation_of_logits']:.2g})",
            f"runner        {runner['tokens']} greedy tokens on {runner['prompts']} prompts in TextLLMRunner: "
            f"{len(runner['differences'])} differ from the reference",
            *(
                f"                prompt {each['prompt']}, token {each['at']}: {each['runner']} instead of "
                f"{each['reference']}, the reference's two best {each['gap']:.2g} apart"
                for each in runner["differences"]
            ),
            "second turn   "
            + ", ".join(f"read {t['read']} new tokens after {t['before']}" for t in report["second_turn"]["turns"]),
        ]
    if "vision" in report:
        vision = report["vision"]
        lines.append(
            f"vision        {vision['tokens']} greedy tokens on {vision['images']} images in MultimodalRunner: "
            f"{vision['differences']} differ from the reference"
        )
    wrong = faults(report)
    return [
        *lines,
        *(f"FAULT         {fault}" for fault in wrong),
        "proof         " + ("failed" if wrong else "holds"),
    ]


def _origin(found: Bundle, run: Path | None) -> tuple[Program | None, Tokenizer, str]:
    """The quantized net rebuilt, the tokenizer to compare with, and why there is no net if there is none."""
    from phi3kit.export.assemble import weights_hash
    from phi3kit.model.stored import weight_files
    from phi3kit.text import HuggingFaceTokenizer
    from phi3kit.verbs.export import quantized
    from phi3kit.verbs.export_order import source_of, tokenizer_of

    own = HuggingFaceTokenizer(str(found.tokenizer))
    origin = found.about["origin"]
    given, run = run is not None, run or Path(origin["run"])
    if not weight_files(run):
        if given:
            raise UserError(f"--run: there is no run at {run}")
        return None, own, f"its run {run} is not here; name it with --run"
    if weights_hash(run) != origin["weights_sha256"]:
        return None, own, f"the weights in {run} are not those it was made from"
    recipe = _recipe(origin["export"])
    program = quantized(run, recipe.quantizer, recipe.context, recipe.cache, recipe.at_end)
    return program, tokenizer_of(source_of(run)), ""


def _recipe(text: str) -> Any:
    """The objects of an export recipe given as YAML."""
    from phi3kit import recipe as recipes
    from phi3kit.verbs.export import declare

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "export.yaml"
        file.write_text(text)
        return recipes.read("export", declare, ["--recipe", str(file)]).instantiate()
