"""Every recipe parses, names where it writes, and continues where one before it ends."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from recipe_folders import FOLDERS, RECIPES, content, lacks_factors, need_plugin, steps, with_factors

from phi3kit import UserError
from phi3kit import recipe as recipes
from phi3kit.cli import VERBS
from phi3kit.export.device import for_device
from phi3kit.export.program import context_of
from phi3kit.model.load import build_net, whole_section
from phi3kit.verbs.export import declare as declare_export
from phi3kit.verbs.fit import declare
from phi3kit.verbs.run import read_steps

FILES = [file for folder in FOLDERS for file in steps(folder)]
MODELS = {
    "phi3-mini", "phi35-mini", "phi3-medium", "phi4-mini", "phi4-mini-reasoning", "phi3-small", "phi35-moe",
    "phi-mini-moe", "phi-tiny-moe", "phi3-vision", "phi35-vision",
}  # fmt: skip


def arguments(*files: Path) -> list[str]:
    return [part for file in files for part in ("--recipe", str(file))]


def test_every_model_has_a_folder() -> None:
    assert {folder.name for folder in FOLDERS} == MODELS | {"pocket", "data-quality"}
    for name in MODELS:
        found = {file.name.split("-", 1)[0] for file in steps(RECIPES / name)}
        assert {"1", "5", "6", "9"} <= found, name


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_a_recipe_parses_and_says_what_it_realises(file: Path, tmp_path: Path) -> None:
    assert file.read_text().startswith("# ")
    need_plugin(file.parent)
    verb = content(file)["verb"]
    name, *work = verb.split()
    declare = getattr(import_module(VERBS[name][0]), "_".join(["declare", *work]))
    files = with_factors([file], tmp_path)
    recipe = recipes.read(verb, declare, arguments(*files))
    assert recipe.out
    if verb == "fit":  # the net that is trained is the one that other verbs and the tests of nets read
        assert whole_section(yaml.safe_load(recipe.text())["net"]) == whole_section(content(*files)["net"])
    # What is saved parses again to the same.
    recipe.save(tmp_path / "config.yaml")
    again = recipes.read(verb, declare, arguments(tmp_path / "config.yaml"))
    assert again.text() == recipe.text()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_an_export_fits_its_model(name: str, tmp_path: Path) -> None:
    """Its quantizer takes every width of the net, and the net has its context."""
    need_plugin(RECIPES / name)
    export = recipes.read("export", declare_export, arguments(RECIPES / name / "9-export.yaml"))
    nets = with_factors([RECIPES / name / "net.yaml"], tmp_path)
    net = build_net(content(*nets)["net"], "meta")
    for_device(net)
    export.instantiate().quantizer.plan(net)
    assert context_of(net, export.config.context) == 4096
    assert export.config.start_from == Path(content(RECIPES / name / "6-dpo.yaml")["out"])


OUTS = {content(file)["out"]: file.parent for file in FILES}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_every_step_starts_from_one_before_it(folder: Path) -> None:
    """Or from another folder's step: vision begins with a trained language model."""
    seen = set()
    for step in read_steps(folder):
        start = content(step.recipe).get("start_from")
        assert start is None or start in seen or OUTS[start] != folder
        seen.add(str(step.out))
    assert len({step.fingerprint for step in read_steps(folder)}) == len(steps(folder))


def test_a_recipe_that_lengthens_the_context_says_that_it_changes_the_net() -> None:
    contexts = {found["out"]: found["net"]["dims"]["context"] for found in map(content, FILES) if "net" in found}
    longer = [f for f in FILES if content(f).get("start_from") in contexts and "net" in content(f)]
    longer = [f for f in longer if content(f)["net"]["dims"]["context"] != contexts[content(f)["start_from"]]]
    assert len(longer) >= 8
    assert all(content(file)["changes_net"] for file in longer)
    assert {f for f in FILES if content(f).get("changes_net")} == set(longer)


def test_no_two_recipes_write_the_same_folder() -> None:
    assert len(OUTS) == len(FILES)


@pytest.mark.parametrize("file", [f for f in FILES if lacks_factors(content(f))], ids=lambda f: f.parent.name)
def test_lists_that_were_never_printed_are_asked_for_by_name(file: Path) -> None:
    need_plugin(file.parent)
    with pytest.raises(UserError, match=r"LongRoPE \(net\.position\) lacks short_factor, long_factor"):
        recipes.read("fit", declare, arguments(file))


LAYERED = [
    (file, layer)
    for file in FILES
    if content(file)["verb"] == "fit" and file.parent.name != "pocket"
    for layer in ("one-gpu.yaml", "multi-gpu.yaml")
]


@pytest.mark.parametrize(
    ("file", "layer"), LAYERED, ids=lambda x: f"{x.parent.name}/{x.name}" if isinstance(x, Path) else x
)
def test_layers_for_gpus_keep_the_rows_of_a_step(file: Path, layer: str, tmp_path: Path) -> None:
    """A step has the recipe's rows on one device and on eight, and the recipe's own callbacks stay."""
    need_plugin(file.parent)
    plain = content(file)
    files = [file, file.parent / layer, *with_factors([file], tmp_path)[1:]]
    config = recipes.read("fit", declare, arguments(*files)).config
    assert config.rows_per_step == plain["rows_per_step"]
    assert config.trainer.devices == (1 if layer == "one-gpu.yaml" else 8)
    assert config.trainer.accumulate_grad_batches == 1, "rows_per_step sets it"
    assert config.rows_per_step % (config.data.init_args.batch_size * config.trainer.devices) == 0
    callbacks = [callback.class_path.rpartition(".")[2] for callback in config.trainer.callbacks]
    kept = [callback["class_path"] for callback in plain["trainer"].get("callbacks", [])]
    assert callbacks[: len(kept)] == kept
    assert "ActivationCheckpointing" in callbacks[len(kept) :]
    if layer == "multi-gpu.yaml":
        assert config.trainer.strategy.init_args.data_parallel_size == config.trainer.devices


def test_the_layer_for_fine_tuning_fits_every_sft_recipe() -> None:
    files = [file for file in FILES if file.name.startswith("5-sft") and file.parent.name != "pocket"]
    assert len(files) >= 10
    layer = yaml.safe_load((RECIPES / "fine-tune.yaml").read_text())
    for file in files:
        assert content(file)["phase"]["class_path"] == "NextToken"
        assert content(file, RECIPES / "fine-tune.yaml")["rows_per_step"] == layer["rows_per_step"]
