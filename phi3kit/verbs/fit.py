"""``phi3kit fit``: train one phase, from scratch or from another run, and go on where a killed one stopped."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.recipe import Recipe
from phi3kit.verbs.alone import alone
from phi3kit.verbs.net_change import check_net_change
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from lightning import Trainer

    from phi3kit.families import Tokenizer
    from phi3kit.phases.batches import Batches
    from phi3kit.phases.phase import Phase
    from phi3kit.phases.run_folder import RunFolder


def declare(parser: ArgumentParser) -> None:
    """The keys of a training recipe."""
    from phi3kit.families import Tokenizer
    from phi3kit.model import Decoder
    from phi3kit.phases import Batches, Phase, Replay

    from lightning import Trainer  # isort: skip  (after phi3kit.phases, which makes it importable)

    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and every random draw")
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
    parser.add_argument("--checkpoint_every", type=int, default=200, help="optimizer steps between checkpoints")
    parser.add_argument(
        "--rows_per_step",
        type=int | None,
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
    with alone(recipe.out):
        report = fit(recipe)
    if summary and first_process():
        show(report)
    return 0


def first_process() -> bool:
    """Whether this is the one process of several that writes and prints."""
    from lightning.pytorch.utilities import rank_zero_only

    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def fit(recipe: Recipe) -> dict[str, Any]:
    """Train as the recipe says; returns the run's report. A finished run is left as it is."""
    from phi3kit.model import weights
    from phi3kit.phases.headline import headline
    from phi3kit.phases.run_folder import RunFolder
    from phi3kit.text import save_tokenizer

    folder = RunFolder(recipe.out, first_process())
    folder.check(recipe)
    if folder.finished:
        print(f"{folder.path} is done already")
        return folder.read_json("report.json") or {}
    parts = build(recipe)
    folder.claim(recipe)
    if folder.first:
        save_tokenizer(parts.tokenizer, _made(folder.path / "tokenizer"))
    begin = time.perf_counter()
    report = _train(recipe, folder, parts.phase, parts.data, parts.trainer)
    report["seconds"] = round(time.perf_counter() - begin, 1)
    report["parameters"] = parts.phase.net.parameter_count()
    report["headline"] = headline(report)
    weights.save(parts.phase.net, folder.path, first=folder.first)
    folder.write_json("report.json", report)
    folder.write_json("done.json", {"fingerprint": recipe.fingerprint})
    return report


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build(recipe: Recipe) -> Namespace:
    """The recipe's objects, joined: `phase` (holding the net), `data`, `trainer`, `tokenizer`."""
    import lightning

    from phi3kit.model import weights
    from phi3kit.phases.kinds import check_kind

    config = recipe.config
    for key in ("phase", "data", "seed"):
        if config.get(key) is None:
            raise UserError(f"the recipe lacks {key}")
    tokenizer = _tokenizer(config)
    if tokenizer.vocab_size > config.net.dims.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} ids, net.dims.vocab_size is {config.net.dims.vocab_size}; "
            "raise it"
        )
    if config.trainer.max_steps < 1:
        raise UserError("the recipe lacks trainer.max_steps: how many optimizer steps to train")
    if config.start_from is not None:
        section = yaml.safe_load(recipe.text())["net"]
        if (said := check_net_change(config.start_from, section, config.changes_net)) and first_process():
            print(said)
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


def _device_of_the_net(strategy: Any) -> contextlib.AbstractContextManager[Any]:
    """Where parameters are made: nowhere, where a strategy shards what the first of several processes has made."""
    import torch

    shards = getattr(strategy, "class_path", "").endswith(".ModelParallelStrategy")
    return torch.device("meta") if shards and not first_process() else contextlib.nullcontext()


def _tokenizer(config: Namespace) -> Tokenizer:
    from phi3kit.model.load import check_run
    from phi3kit.text import load_tokenizer

    inherited = config.start_from / "tokenizer" if config.start_from else None
    if config.start_from is not None:
        try:
            check_run(config.start_from)
        except UserError as error:
            raise UserError(f"start_from: {error}") from error
    source = config.tokenizer or inherited
    if source is None:
        raise UserError("the recipe lacks tokenizer: a folder that `phi3kit prepare` or another run wrote")
    tokenizer = load_tokenizer(source)
    if inherited is not None and tokenizer.fingerprint != load_tokenizer(inherited).fingerprint:
        raise UserError(f"{source} is not the tokenizer that {config.start_from} was trained with; use {inherited}")
    return tokenizer


def make_trainer(arguments: Namespace, extra: list[Any], logger: Any) -> Trainer:
    """A Trainer that leaves progress, checkpoints and data state to phi3kit."""
    from lightning import Trainer

    options = dict(arguments)
    options["strategy"] = copy.deepcopy(options["strategy"])  # one strategy serves one Trainer
    options["callbacks"] = [*(options.get("callbacks") or []), *extra]
    if options.get("logger") is None:
        options["logger"] = logger
    options |= {
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "max_epochs": -1,
    }
    if not options.get("val_check_interval"):
        options["limit_val_batches"] = 0
    return Trainer(**options)


def _train(
    recipe: Recipe, folder: RunFolder, phase: Phase, data: Batches, trainer_arguments: Namespace
) -> dict[str, Any]:
    from lightning.pytorch.loggers import TensorBoardLogger

    from phi3kit.phases.checkpoints import Checkpoints
    from phi3kit.phases.console import Console

    config = recipe.config
    start = folder.read_json("start.json")
    checkpoints = folder.checkpoints()
    if start is None:
        start = evaluate(trainer_arguments, phase, data, "heldout")
        folder.write_json("start.json", start)
    log_every = trainer_arguments.log_every_n_steps or max(1, config.trainer.max_steps // 20)
    console = Console(folder, folder.path.name, log_every)
    saver = Checkpoints(folder, config.checkpoint_every)
    logger = TensorBoardLogger(folder.path, name="", version="tensorboard")
    trainer = make_trainer(trainer_arguments, [console, saver], logger)
    if config.rows_per_step is not None:
        trainer.accumulate_grad_batches = _batches_per_step(config.rows_per_step, data.batch_size, trainer)
    resume = checkpoints[-1] if checkpoints else None
    if resume and folder.first:
        print(f"{folder.path}: going on from {resume.name}")
    _fit_from(trainer, phase, data, resume)
    end = evaluate(trainer_arguments, phase, data, "heldout")
    return {
        "steps": trainer.global_step,
        "train_loss": console.last_loss,
        "before": start,
        "after": end,
        **data.report,
        **{k: v for c in trainer.callbacks for k, v in getattr(c, "report", {}).items()},  # type: ignore[attr-defined]
    }


def _batches_per_step(rows: int, batch_size: int, trainer: Trainer) -> int:
    """How many batches every device adds up for an optimizer step of so many rows."""
    devices = trainer.num_devices * trainer.num_nodes
    if trainer.accumulate_grad_batches != 1:
        raise UserError("give either rows_per_step or trainer.accumulate_grad_batches, not both")
    if rows < 1 or rows % (batch_size * devices):
        raise UserError(
            f"rows_per_step is {rows}, not a multiple of {batch_size} rows on each of {devices} devices; "
            "change it, data.init_args.batch_size or trainer.devices"
        )
    return rows // (batch_size * devices)


def _fit_from(trainer: Trainer, phase: Phase, data: Batches, checkpoint: Path | None) -> None:
    """`trainer.fit`, with a damaged checkpoint as one clear line."""
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    with _ctrl_c():
        trainer.fit(phase, data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)


@contextlib.contextmanager
def _ctrl_c() -> Iterator[None]:
    """Lightning ends what Ctrl-C interrupted with SystemExit; make it the interrupt it was."""
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop


def check_checkpoint(path: Path) -> None:
    """Raise `UserError` where a checkpoint cannot be read whole."""
    import torch

    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0][:80]}); remove it to go on from the one before it"
        ) from error


def evaluate(trainer_arguments: Namespace, phase: Phase, data: Batches, part: str, callbacks: bool = False) -> Any:
    """Held-out measures of the phase's net as it is now.

    Args:
        trainer_arguments: of the recipe.
        phase: what measures.
        data: what it measures on.
        part: "heldout" or "test".
        callbacks: whether the recipe's callbacks set the phase up first, as they did where it was trained.

    Raises:
        UserError: the loss is NaN or infinite.
    """
    options = trainer_arguments.clone()
    if not callbacks:
        options.callbacks = None
    options.val_check_interval = 1.0
    trainer = make_trainer(options, [], False)
    run = trainer.validate if part == "heldout" else trainer.test
    with _ctrl_c():
        found = run(phase, data, verbose=False) or [{}]
    measures = {name: value for part in found for name, value in part.items()}
    if not math.isfinite(measures.get("heldout/loss", 0.0)):
        raise UserError(
            f"the held-out loss is {measures['heldout/loss']}, which is not a number; where training made it so, lower "
            "the learning rate and give the run another --out"
        )
    return {name.removeprefix("heldout/"): value for name, value in measures.items()}
