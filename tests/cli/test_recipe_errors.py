"""A mistake in a recipe is one line: the file, what is wrong, what was got, the nearest valid name."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import yaml

from phi3kit import UserError, cli
from phi3kit import recipe as recipes

# packages that take a second or more to import, or bring one that does
SLOW = {
    "datasets",
    "datatrove",
    "executorch",
    "litdata",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "spacy",
    "torchao",
    "torchvision",
    "transformers",
}

GOOD = {
    "verb": "fit",
    "tokenizer": "no/such/tokenizer",
    "net": {
        "dims": {"vocab_size": 96, "hidden_size": 32, "n_layers": 2, "n_heads": 4},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
    },
    "phase": {
        "class_path": "NextToken",
        "init_args": {
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
            "schedule": {"shape": "linear"},
        },
    },
    "data": {
        "class_path": "TokenStream",
        "init_args": {"folder": "data", "part": "web", "context": 16, "batch_size": 2},
    },
    "trainer": {"max_steps": 2},
}


@pytest.fixture
def fit(tmp_path, capsys):
    """Run `phi3kit fit` on a recipe; returns what it said on standard error."""

    def run(content: object, *arguments: str) -> str:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        assert cli.main(["fit", "--recipe", str(recipe), "--out", str(tmp_path / "out"), *arguments]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith("phi3kit: error: ")
        assert "\n" not in said
        return said.removeprefix("phi3kit: error: ").replace(str(recipe), "FILE")

    return run


def changed(path: str, value: object) -> dict:
    """The good recipe with one value replaced; numbers in the path index lists."""
    recipe = copy.deepcopy(GOOD)
    *above, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place = recipe
    for part in above:
        place = place[part]
    place[last] = value
    return recipe


def without(path: str) -> dict:
    recipe = changed(path, None)
    *above, last = path.split("/")
    place = recipe
    for part in above:
        place = place[part]
    del place[last]
    return recipe


def test_the_good_recipe_gets_as_far_as_its_tokenizer(fit):
    assert "no/such/tokenizer" in fit(GOOD)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        # misspelt keys
        ("sede", 3, "FILE: there is no key 'sede'; did you mean 'seed'?"),
        ("net/dims/hidden_sise", 3, "FILE: there is no key 'net.dims.hidden_sise'; did you mean 'hidden_size'?"),
        ("trainer/max_step", 3, "FILE: there is no key 'trainer.max_step'; did you mean 'max_steps'?"),
        (
            "net/attention/0/init_args",
            {"windw": 3},
            "FILE: GroupedQueryAttention (net.attention) has no option 'windw'; did you mean 'window'?",
        ),
        (
            "data/init_args/batchsize",
            3,
            "FILE: TokenStream (data) has no option 'batchsize'; did you mean 'batch_size'?",
        ),
        # misspelt components
        (
            "net/attention/0/class_path",
            "GroupedQueryAtention",
            "FILE: net.attention: no Attention is called 'GroupedQueryAtention'; did you mean 'GroupedQueryAttention'?",
        ),
        (
            "net/position/class_path",
            "Rope",
            "FILE: net.position: no Position is called 'Rope'; did you mean 'RoPE'?",
        ),
        ("phase/class_path", "NextTokn", "FILE: phase: no Phase is called 'NextTokn'; did you mean 'NextToken'?"),
        (
            "net/position/class_path",
            "acme.RoPE",
            "FILE: net.position: there is no package 'acme' for acme.RoPE; is its plugin installed?",
        ),
        # wrong types
        ("net/dims/n_layers", "two", "FILE: net.dims.n_layers must be int, got 'two'"),
        ("net/dims/n_layers", 2.5, "FILE: net.dims.n_layers must be int, got '2.5'"),
        ("net/dims", "tiny", "FILE: net.dims must be a mapping of its options, got 'tiny'"),
        ("data/init_args/batch_size", "many", "FILE: data … batch_size must be int, got 'many'"),
        (
            "phase/init_args/optimizer/init_args/lr",
            "fast",
            "FILE: phase … lr must be float or torch.Tensor, got 'fast'",
        ),
        (
            "phase/init_args/schedule/shape",
            "sine",
            "FILE: phase … schedule.shape must be one of 'cosine', 'linear', 'constant', got 'sine'",
        ),
        # the wrong verb
        ("verb", "prepare", "FILE is a recipe for `phi3kit prepare`, not `phi3kit fit`"),
    ],
)
def test_mistake(fit, path, value, said):
    assert fit(changed(path, value)) == said


def test_component_of_another_family(fit):
    said = fit(changed("net/position/class_path", "GatedMLP"))
    assert said.startswith("FILE: net.position: GatedMLP is not of the family Position; valid: ")
    assert {"RoPE", "LongRoPE"} <= set(said.replace(",", "").split())


@pytest.mark.parametrize(
    ("recipe", "lacks"),
    [
        (without("net/dims/hidden_size"), "the recipe lacks net.dims.hidden_size"),
        (without("net/attention"), "the recipe lacks net.attention"),
        (without("phase"), "the recipe lacks phase"),
        (without("tokenizer"), "the recipe lacks tokenizer"),
        (
            changed("net/position", {"class_path": "LongRoPE", "init_args": {"original_context": 16}}),
            "FILE: LongRoPE (net.position) lacks short_factor, long_factor",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_missing_key(fit, recipe, lacks):
    assert lacks in fit(recipe)


def test_misspelt_option_on_the_command_line(fit):
    said = fit(GOOD, "--net.dims.hiden_size", "3")
    assert said == "there is no option --net.dims.hiden_size; did you mean 'net.dims.hidden_size'?"


EXPORT = """verb: export
name: x
start_from: runs/x
out: bundles/x
quantizer: {class_path: GPTQ, init_args: {group_size: 64}}
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--quantizer.group_siz", "32"], "GPTQ (quantizer) has no option 'group_siz'; did you mean 'group_size'?"),
        (["--quantizer.init_args.dampin=1"], "GPTQ (quantizer) has no option 'dampin'; did you mean 'damping'?"),
        (["--quantizr", "GPTQ"], "there is no option --quantizr; did you mean 'quantizer'?"),
        (["--net.dims.hiden_size", "3"], "there is no key net.dims.hiden_size; did you mean 'net.dims.hidden_size'?"),
        (["--net.attention.9.init_args.window", "3"], "net lacks dims: it says which net random weights are drawn for"),
        (["--net.possition", "RoPE"], "there is no key net.possition; did you mean 'net.position'?"),
    ],
)
def test_misspelt_options_of_an_export(line, said, tmp_path, monkeypatch):
    from phi3kit.verbs import export, export_order

    (tmp_path / "r.yaml").write_text(EXPORT)

    def order():
        return export_order.read_order(recipes.read("export", export.declare, ["--recipe", "r.yaml", *line]))

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        order()
    assert str(error.value) == said


def test_the_net_of_random_weights_is_changed_key_by_key(tmp_path, monkeypatch):
    from phi3kit.verbs import export

    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(EXPORT.replace("start_from: runs/x", "random: 0\nnet: {dims: {n_layers: 4}}"))
    line = ["--recipe", "r.yaml", "--net.dims.n_layers", "2", "--net.dims.context=64"]
    assert recipes.read("export", export.declare, line).config.net == {"dims": {"n_layers": 2, "context": 64}}


@pytest.mark.parametrize("at", ["trainr", "net.dimz", "nothing"])
def test_an_empty_mapping_under_no_known_key(fit, at):
    recipe = copy.deepcopy(GOOD)
    group, _, name = at.rpartition(".")
    (recipe[group] if group else recipe)[name] = {}
    assert f"there is no key {at!r}, which is left empty; misspelt?" in fit(recipe)


def test_valid_options_are_listed_without_help(tmp_path):
    from phi3kit.verbs import score

    with pytest.raises(UserError, match="no option --labls; valid: ") as error:
        recipes.read("score fit", score.declare_fit, ["--labls", "x"])
    assert ".help" not in str(error.value)
    assert "training" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "FILE is not a recipe: a mapping of keys is expected, got NoneType"),
        ("- 1\n", "FILE is not a recipe: a mapping of keys is expected, got list"),
        ("net:\n  dims: [1\n", "FILE:3 is not YAML: "),
        ("net:\n\tdims: 1\n", "FILE:2 is not YAML: "),
        ("base: recipe.yaml\n", "FILE: its `base:` leads back to itself"),
    ],
)
def test_file_that_is_no_recipe(fit, text, said):
    assert fit(text).startswith(said)


def test_layer_below_that_does_not_exist(fit, tmp_path):
    (tmp_path / "net.yaml").write_text("seed: 1\n")
    said = fit("base: nett.yaml\n")
    assert said == f"there is no recipe '{tmp_path / 'nett.yaml'}'; did you mean 'net.yaml'?"


def test_the_layer_with_the_mistake_is_named(fit, tmp_path):
    (tmp_path / "low.yaml").write_text(yaml.safe_dump(changed("net/dims/hidden_sise", 3)))
    assert fit("base: low.yaml\nseed: 3\n").startswith(f"{tmp_path / 'low.yaml'}: there is no key")


def test_recipe_that_does_not_exist(tmp_path, capsys):
    (tmp_path / "2-pretrain.yaml").write_text("verb: fit\n")
    assert cli.main(["fit", "--recipe", str(tmp_path / "2-pretrian.yaml")]) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith("2-pretrian.yaml'; did you mean '2-pretrain.yaml'?")
    assert "\n" not in said


@pytest.mark.parametrize("arguments", [["fit", "--help"], ["fit", "--no_such", "3"], ["plugins", "--check"]])
def test_answer_imports_no_more_than_torch_and_lightning(arguments):
    """How long that takes is measured by benchmarks/start_up.py; what would make it longer is known by name."""
    script = f"""
import contextlib, io, sys
from phi3kit import UserError, cli
from phi3kit import recipe as recipes
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    with contextlib.suppress(SystemExit):
        cli.main({arguments!r})
print("loaded:", *sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    said, *loaded = done.stdout.split()
    assert said == "loaded:"
    assert {"torch", "lightning"} <= set(loaded)
    assert not SLOW & set(loaded)
