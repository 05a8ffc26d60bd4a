"""``phi3kit fit``: train one phase, from scratch or from another run, and go on where a killed one stopped."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from phi3kit import recipe as recipes
from phi3kit.bounds import AtLeastOne, NotNegative, Seed
from phi3kit.errors import UserError
from phi3kit.out_folder import check_no_strangers
from phi3kit.recipe import Recipe
from phi3kit.verbs import data_prints
from phi3kit.verbs.alone import alone
from phi3kit.verbs.net_change import check_net_change
from phi3kit.verbs.net_room import check_room
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from phi3kit.families import Tokenizer


STOPPED = 75  # exit code of a run that its time limit ended: sysexits.h's "try again later"


OF_A_RUN = (
    *("config.yaml", "tokenizer", "checkpoints", "tensorboard", "start.json", "metrics.csv", "model.safetensors"),
    *("report.json", "done.json", "run.json", data_prints.FILE),
)


def declare(parser: ArgumentParser) -> None:
    """The keys of a training recipe."""
    from phi3kit.families import Tokenizer
    from phi3kit.model import Decoder
    from phi3kit.phases import Batches, Phase, Replay

    from lightning import Trainer  # isort: skip  (after phi3kit.phases, which makes it importable)

    parser.add_argument("--seed", type=Seed, default=0, help="of the initial weights and every random draw")
    parser.add_argument("--start_from", type=Path | None, default=None, help="run folder whose weights to start from")
    parser.add_argument(
        "--changes_net",
        type=bool,
        default=False,
        help="the net is meant to differ from start_from's in position, attention or context, as for longer texts",
    )
    parser.add_argument(
        "--parts_from",
        type=dict[str, Path] | None,
        default=None,
        help="safetensors folders for parts of the net, by how their names begin; they come after start_from",
    )
    parser.add_argument("--tokenizer", type=Path | None, default=None, help="tokenizer folder; default: start_from's")
    parser.add_argument("--checkpoint_every", type=NotNegative, default=200, help="optimizer steps between checkpoints")
    parser.add_argument(
        "--rows_per_step",
        type=AtLeastOne | None,
        default=None,
        help="rows (or pairs) of one optimizer step over all devices: sets trainer.accumulate_grad_batches",
    )
    parser.add_class_arguments(Decoder, "net")
    parser.add_argument("--phase", type=Callable[[Decoder], Phase], help="what is learned: the loss")
    parser.add_argument("--data", type=Callable[[Tokenizer], Batches], help="what it is learned from")
    parser.add_argument(
        "--replay",
        type=Replay | None,
        default=None,
        help="text that the net learned before, to learn beside `data`, so that the net does not forget it",
    )
    parser.add_class_arguments(Trainer, "trainer", instantiate=False)


def main(arguments: list[str], *, summary: bool = True) -> int:
    """Run the verb; `phi3kit run` prints the summary itself, of all steps."""
    recipe = recipes.read("fit", declare, arguments, __doc__)
    if first_process() and not (recipe.out / "config.yaml").exists():
        check_no_strangers(recipe.out, OF_A_RUN)
    with alone(recipe.out):
        report = fit(recipe)
    if report is None:
        return STOPPED
    if summary and first_process():
        show(report)
    return 0


def first_process() -> bool:
    """Whether this is the one process of several that writes and prints."""
    from lightning.pytorch.utilities import rank_zero_only

    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def fit(recipe: Recipe) -> dict[str, Any] | None:
    """Train as the recipe says; returns the run's report, or None where a time limit stopped it. A finished run is left
    as it is, but where it is to be longer."""
    from phi3kit.model import weights
    from phi3kit.phases.headline import headline
    from phi3kit.phases.run_folder import RunFolder
    from phi3kit.phases.training import train
    from phi3kit.text import save_tokenizer

    folder = RunFolder(recipe.out, first_process())
    folder.check(recipe)
    prints = data_prints.of_recipe(recipe.config) if folder.first else {}
    other = data_prints.changed(folder.path, prints)
    if folder.finished:
        print(f"{folder.path} is done already")
        if other:
            print(f"{folder.path}: {data_prints.told(other)}; give another --out to train on what is there now")
        return folder.read_json("report.json") or {}
    if other and folder.checkpoints():
        raise UserError(
            f"{folder.path}: {data_prints.told(other)}, so the run cannot go on; give another --out, or bring back "
            "what was there"
        )
    parts = build(recipe)
    folder.claim(recipe)
    if folder.first:
        save_tokenizer(parts.tokenizer, _made(folder.path / "tokenizer"))
        if other:  # nothing is trained yet
            (folder.path / "start.json").unlink(missing_ok=True)
    folder.write_json(data_prints.FILE, prints)
    begin = time.perf_counter()
    report = train(recipe, folder, parts.phase, parts.data, parts.trainer)
    if report is None:
        return None
    report["seconds"] = round(time.perf_counter() - begin, 1)
    report["parameters"] = parts.phase.net.parameter_count()
    report["headline"] = headline(report)
    weights.save(parts.phase.net, folder.path, first=folder.first, widen=parts.phase.widen)
    folder.write_json("report.json", report)
    folder.write_json("done.json", {"fingerprint": recipe.fingerprint})
    folder.keep_newest(1)  # with optimizer state: what making the run longer needs
    return report


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build(recipe: Recipe) -> Namespace:
    """The recipe's objects, joined: `phase` (holding the net), `data`, `trainer`, `tokenizer`."""
    import lightning

    from phi3kit.model import weights
    from phi3kit.phases.kinds import check_kind
    from phi3kit.phases.trainer_options import check_options

    config = recipe.config
    for key in ("phase", "data", "seed"):
        if config.get(key) is None:
            raise UserError(f"the recipe lacks {key}")
    check_options(config.trainer)
    tokenizer = _tokenizer(config)
    if tokenizer.vocab_size > config.net.dims.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} ids, net.dims.vocab_size is {config.net.dims.vocab_size}; "
            "raise it"
        )
    train, heldout = ((config.data.get("init_args") or {}).get(part) for part in ("train", "heldout"))
    if train and heldout and Path(train).resolve() == Path(heldout).resolve():
        _say(f"train and heldout are one file, {train}: the held-out loss is of what is learned by heart")
    check_room(config.net.dims, config.trainer.strategy)
    if config.start_from is not None:
        section = yaml.safe_load(recipe.text())["net"]
        if said := check_net_change(config.start_from, section, config.changes_net):
            _say(said)
    lightning.seed_everything(config.seed, verbose=False)
    with _device_of_the_net(config.trainer.strategy):
        objects = recipe.instantiate()
    if config.start_from is not None and not objects.net.embed_tokens.weight.is_meta:
        weights.load_into(objects.net, config.start_from)
    for prefix, folder in (config.parts_from or {}).items():
        if not objects.net.embed_tokens.weight.is_meta:
            weights.load_part(objects.net, prefix, folder)
    objects.phase = objects.phase(objects.net)
    objects.data = objects.data(tokenizer)
    if objects.replay is not None:
        objects.data.replay, objects.phase.replay_weight = objects.replay.data(tokenizer), objects.replay.weight
    check_kind(objects.phase, objects.data)
    objects.tokenizer = tokenizer
    return objects


def _say(line: str) -> None:
    """A remark, once, beside what the verb prints."""
    if first_process():
        print(line, file=sys.stderr)


def _device_of_the_net(strategy: Any) -> contextlib.AbstractContextManager[Any]:
    """Where parameters are made: nowhere, where a strategy shards what the first of several processes has made."""
    import torch

    shards = getattr(strategy, "class_path", "").endswith(".ModelParallelStrategy")
    return torch.device("meta") if shards and not first_process() else contextlib.nullcontext()


def _tokenizer(config: Namespace) -> Tokenizer:
    from phi3kit.model.load import check_run
    from phi3kit.text import tokenizer_going_on

    inherited = config.start_from / "tokenizer" if config.start_from else None
    if config.start_from is not None:
        try:
            check_run(config.start_from)
        except UserError as error:
            raise UserError(f"start_from: {error}") from error
    source = config.tokenizer or inherited
    if source is None:
        raise UserError("the recipe lacks tokenizer: a folder that `phi3kit prepare` or another run wrote")
    return tokenizer_going_on(source, inherited)
