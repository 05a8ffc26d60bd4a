"""``phi3kit verify BUNDLE``: prove a bundle again.

Its files are checked against their sha256, its tokenizer and interface by themselves, and its program against the
quantized net rebuilt from the run it was made from, where that run is still there and unchanged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from phi3kit.errors import UserError
from phi3kit.verbs import proof_page

if TYPE_CHECKING:
    from phi3kit.bundle import Bundle
    from phi3kit.export import Program
    from phi3kit.export.proof import Point, Proof
    from phi3kit.export.vision import VisionPrograms
    from phi3kit.families import Tokenizer
    from phi3kit.verbs.export_order import Order

PROMPTS = 20  # TextLLMRunner answers so many
ON_ARM = 4  # and so many in an emulation


def main(arguments: list[str]) -> int:
    """Run the verb; 1 if a check found a fault."""
    parser = argparse.ArgumentParser(prog="phi3kit verify", allow_abbrev=False, description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder that `phi3kit export` wrote")
    parser.add_argument("--run", type=Path, help="run folder it was made from; default: as its recipe says")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="where verification.html goes; default: BUNDLE-verification"
    )
    parser.add_argument(
        "--arm", type=Path, metavar="FOLDER", help="run it on an emulated ARM processor too; mobile/arm.md says how"
    )
    options = parser.parse_args(arguments)
    from phi3kit import bundle
    from phi3kit.export.arm import check_root
    from phi3kit.export.proof import files_point

    found = bundle.read(options.bundle, anew=True)
    if options.arm is not None:
        check_root(options.arm)
    folder = _report_folder(options.report or _beside(options.bundle))
    reference, tokenizer, missing = _origin(found, options.run)
    vision = None
    if reference is not None and reference.net.vision_embed_tokens is not None:
        from phi3kit.export.vision import VisionPrograms

        vision = VisionPrograms.of(reference, tuple(found.about["vision"]["crops"]))
    promise, runtime = found.about["program"], found.about["versions"]["executorch"]
    proof = prove(
        found.model, found.tokenizer, promise, tokenizer, reference, [], vision, missing=missing, runtime=runtime
    )
    proof |= [files_point({name: about["sha256"] for name, about in found.about["files"].items()})]
    if options.arm is not None:
        proof |= [_on_arm(options.arm, found, tokenizer, proof)]
    proof_page.write(folder, proof_page.document(found.about, proof))
    print("\n".join(proof.lines()))
    print(f"report: {folder / proof_page.PAGE}", flush=True)
    return 1 if proof.faults else 0


def _on_arm(root: Path, found: Bundle, tokenizer: Tokenizer, proof: Proof) -> Point:
    """The program on an emulated processor, as near to this one's as the quantized net's activations are rounded."""
    from phi3kit.export.arm import check_arm
    from phi3kit.export.proof import Point, arm_point
    from phi3kit.export.pte import cannot_run
    from phi3kit.export.samples import PROMPTS as OWN
    from phi3kit.records import Message
    from phi3kit.text.template import render

    if why := cannot_run(found.model):
        return Point("arm", not_run=why)
    step = proof["logits"].get("activation_step") or _stored_step(found)
    if step is None:
        return Point("arm", not_run="how far logits may differ is not known: its run is not here, nor was it at export")
    prompts = [render([Message("user", text)], tokenizer, generation=True).ids for text in OWN]
    fitting = [ids for ids in prompts if 3 * len(ids) < found.about["context"]][:ON_ARM]
    return arm_point(check_arm(root, found.model, fitting, found.about["vocab_size"], step))


def _stored_step(found: Bundle) -> float | None:
    """One activation step as the export measured it."""
    report = json.loads((found.folder / "report.json").read_text())
    numbers = [point["numbers"] for point in report["verification"]["points"] if point["name"] == "logits"]
    return numbers[0].get("activation_step")


def _beside(folder: Path) -> Path:
    """A bundle holds what was sealed and nothing else."""
    return folder.resolve().with_name(f"{folder.resolve().name}-verification")


def _report_folder(folder: Path) -> Path:
    """Made before anything is computed, since it may not be writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write a report to {folder}: {error.strerror}; give another --report") from error
    return folder


def prove(
    model: Path,
    device_tokenizer: Path,
    expected: dict[str, Any],
    tokenizer: Tokenizer,
    reference: Program | None,
    texts: Sequence[str],
    vision: VisionPrograms | None = None,
    *,
    missing: str = "",
    runtime: str | None = None,
) -> Proof:
    """Every point that can be looked at here.

    Args:
        model: the `.pte`.
        device_tokenizer: the bundle's tokenizer.json; tokenizer_config.json is beside it.
        expected: constant methods under "constants", allowed delegates under "delegates".
        tokenizer: the model's own.
        reference: the quantized net, run eagerly; None leaves the program itself unchecked.
        texts: what users ask, for prompts; 20 of phi3kit's own are added where there are fewer.
        vision: the other methods of a net that sees, run eagerly.
        missing: why there is no reference, if there is none.
        runtime: version of the oldest ExecuTorch that it is for; None: the one here.
    """
    from phi3kit.export.assemble import TOKENIZER_CONFIG
    from phi3kit.export.device_text import check_device_text
    from phi3kit.export.javascript_template import check_chat_template
    from phi3kit.export.operators import check_operators
    from phi3kit.export.proof import Proof, interface_point, operators_point, template_point, tokenizer_point
    from phi3kit.export.samples import AWKWARD
    from phi3kit.export.samples import PROMPTS as OWN
    from phi3kit.export.verify import check_metadata

    constants = expected["constants"]
    said, config = [*texts, *OWN, *AWKWARD], device_tokenizer.with_name(TOKENIZER_CONFIG)
    in_ids = check_device_text(device_tokenizer, tokenizer, said, constants["get_vocab_size"])
    return Proof.of(
        [
            interface_point(check_metadata(model, constants, frozenset(expected["delegates"]))),
            tokenizer_point(in_ids, own=not missing),
            operators_point(check_operators(model, runtime or version("executorch"))),
            *_against(model, constants, tokenizer, reference, texts, vision, missing),
            template_point(check_chat_template(config, device_tokenizer, tokenizer, said)),
        ]
    )


def _against(
    model: Path,
    constants: dict[str, Any],
    tokenizer: Tokenizer,
    reference: Program | None,
    texts: Sequence[str],
    vision: VisionPrograms | None,
    missing: str,
) -> list[Point]:
    """The points that need the quantized net."""
    from phi3kit.export.proof import Point, logits_point, runner_point
    from phi3kit.export.pte import cannot_run
    from phi3kit.export.samples import AWKWARD
    from phi3kit.export.samples import PROMPTS as OWN
    from phi3kit.export.verify import check_program
    from phi3kit.export.vision_runner import check_vision
    from phi3kit.records import Message
    from phi3kit.serve import BundleEngine
    from phi3kit.text.template import render

    if why := missing or cannot_run(model):
        return [Point(name, not_run=why) for name in ("logits", "runner")]
    assert reference is not None, "missing says why there is none"
    asked = [*_spread(texts, PROMPTS), *OWN, *AWKWARD]
    prompts = [render([Message("user", text)], tokenizer, generation=True).ids for text in asked]
    fitting = [ids for ids in prompts if 3 * len(ids) < reference.context][:PROMPTS]
    engine = partial(BundleEngine, model, at_once=None)
    checks = check_program(model, engine, reference, fitting, constants["get_eos_ids"])
    step, logits = checks.pop("activation_step"), checks.pop("logits")
    if vision is not None:
        checks["vision"] = check_vision(model, vision, tokenizer, step)
    return [logits_point(logits, step), runner_point(checks)]


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """At most `count` of the texts, evenly spaced."""
    return list(dict.fromkeys(texts[i * len(texts) // count] for i in range(count))) if texts else []


def _origin(found: Bundle, run: Path | None) -> tuple[Program | None, Tokenizer, str]:
    """The quantized net made again as the recipe says, the tokenizer to compare with, and why there is no net if there
    is none."""
    from phi3kit.export.assemble import hash_of_files
    from phi3kit.text.device_template import tokenizer_of_bundle
    from phi3kit.verbs.export import quantized

    own, origin = tokenizer_of_bundle(found.about, found.folder), found.about["origin"]
    recipe = yaml.safe_load(origin["export"])
    if run is not None and not run.is_dir():
        raise UserError(f"--run: there is no run at {run}")
    if run is not None and recipe["random"] is not None:
        raise UserError("--run: this bundle's weights were drawn at random, by its recipe; leave it out")
    recipe["start_from"] = str(run) if run else recipe["start_from"]
    if recipe["start_from"] and not Path(recipe["start_from"]).is_dir():
        return None, own, f"its run {recipe['start_from']} is not here; name it with --run"
    try:
        order = _order(recipe)
    except UserError as error:
        return None, own, f"the quantized net cannot be made again here: {error}"
    if hash_of_files(order.source.files) != origin["weights_sha256"]:
        return None, own, f"the weights in {order.source.says} are not those it was made from"
    net = (order.context, order.cache, order.at_end, order.calibration)
    return quantized(order.source, order.quantizer, *net), order.tokenizer, ""


def _order(recipe: dict[str, Any]) -> Order:
    """What an export's recipe asks for, but for what is measured."""
    from phi3kit import recipe as recipes
    from phi3kit.verbs.export import declare
    from phi3kit.verbs.export_order import read_order

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "export.yaml"
        unmeasured = dict.fromkeys(("heldout", "questions", "beside", "talk"))
        file.write_text(yaml.safe_dump(recipe | unmeasured | {"out": f"{folder}/out"}))
        return read_order(recipes.read("export", declare, ["--recipe", str(file)]))
