"""Wrong input is one clear line and exit code 2, whatever is wrong: a key, a type, a bound, a path, a plugin."""

from __future__ import annotations

import copy
import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from phi3kit import UserError, cli, plugins
from phi3kit import recipe as recipes
from phi3kit.model.load import build_net, net_section
from phi3kit.out_folder import check_no_strangers, check_out
from phi3kit.records import Dims
from phi3kit.verbs import fit
from phi3kit.verbs.net_room import check_room

FIT: dict[str, Any] = {
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
PREPARE: dict[str, Any] = {
    "verb": "prepare",
    "preparation": {"readers": [{"class_path": "Files", "init_args": {"path": "notes"}}], "vocab_size": 300},
}
EXPORT: dict[str, Any] = {
    "verb": "export",
    "start_from": "runs/x",
    "quantizer": {"class_path": "Int8DynamicInt4Weight"},
}


def changed(recipe: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(recipe)
    place, parts = made, [int(part) if part.isdecimal() else part for part in key.split(".")]
    for part in parts[:-1]:
        place = place[part] if isinstance(place, list) else place.setdefault(part, {})
    place[parts[-1]] = value
    return made


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a verb on a recipe, which must end in one line; returns it."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, content: dict[str, Any] | str | None, *arguments: str) -> str:
        line = [verb, *arguments]
        if content is not None:
            Path("r.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
            line = [verb, "--recipe", "r.yaml", *(() if "--out" in arguments else ("--out", "out")), *arguments]
        assert cli.main(line) == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("phi3kit: error: ")
        assert "\n" not in message
        assert "print_shtab" not in message
        return message.removeprefix("phi3kit: error: ")

    return run


LR = "phase.init_args.optimizer.init_args.lr"
WRONG = [
    (FIT, "net.attention", [], "net.attention must have at least 1 entries, got 0"),
    (FIT, "net.dims.n_layers", 0, "net.dims.n_layers must be at least 1 and at most 4,096, got 0"),
    (FIT, "net.embedding_dropout", 2, "net.embedding_dropout must be at least 0 and below 1, got 2.0"),
    (FIT, "net.attention.0.init_args", {"window": 0}, "net.attention.0.init_args.window must be at least 1, got 0"),
    (FIT, "data.init_args.batch_size", 0, "data.init_args.batch_size must be at least 1, got 0"),
    (FIT, "data.init_args.batch_size", -2, "data.init_args.batch_size must be at least 1, got -2"),
    (FIT, "data.init_args.context", 0, "data.init_args.context must be at least 2, got 0"),
    (FIT, "data.init_args.context", 1, "data.init_args.context must be at least 2, got 1"),
    (FIT, "data.init_args.context", float("inf"), "context must be int"),
    (FIT, "seed", -1, "seed must be at least 0 and at most 4,294,967,295, got -1"),
    (FIT, "seed", 10**30, "seed must be at most"),
    (FIT, "trainer.max_steps", 10**20, "trainer.max_steps must be at most"),
    (FIT, "checkpoint_every", -1, "checkpoint_every must be at least 0, got -1"),
    (FIT, "rows_per_step", 0, "rows_per_step must be at least 1, got 0"),
    (FIT, LR, -0.1, f"{LR} must be at least 0, got -0.1"),
    (FIT, "phase.init_args.schedule.floor", 5, "phase.init_args.schedule.floor must be at least 0 and at most 1"),
    (FIT, "phase.init_args.schedule.warmup_steps", -1, "phase.init_args.schedule.warmup_steps must be at least 0"),
    (FIT, "data.init_arg", {}, "data has no key 'init_arg' beside class_path; did you mean 'init_args'?"),
    (FIT, "data.init_args", None, "data.init_args must be a mapping of options, got None"),
    (FIT, "data.class_path", None, "data.class_path must be the name of a component, got None"),
    (
        FIT,
        "phase.init_args.optimizer.class_path",
        "torch.optim.AdamV",
        "phase … optimizer: torch.optim has no class 'AdamV'; did you mean 'Adam'?",
    ),
    (FIT, "verb", "trian", "r.yaml says `verb: trian`, which no recipe can"),
    (FIT, "net.dims.3", 1, "there is no key 'net.dims.3'"),
    (PREPARE, "preparation.shard_megabytes", 0, "preparation.shard_megabytes must be above 0, got 0.0"),
    (PREPARE, "preparation.vocab_size", 10**15, "preparation.vocab_size must be at least 261 and at most 16,777,216"),
    (
        PREPARE,
        "preparation.readers.0.init_args",
        {"pth": "notes"},
        "Files (preparation.readers) has no option 'pth'; did you mean 'path'?",
    ),
    (
        PREPARE,
        "preparation.filters",
        [{"class_path": "Files", "init_args": {"path": "x"}}],
        "preparation.filters: Files is not of the family Filter; valid: Length",
    ),
    (EXPORT, "quantizer.init_args", {"grup_size": 3}, "Int8DynamicInt4Weight (quantizer) has no option 'grup_size'"),
]


@pytest.mark.parametrize(("recipe", "key", "value", "line"), WRONG, ids=[f"{w[1]} {w[2]!r:.30}" for w in WRONG])
def test_a_value(said: Any, recipe: dict[str, Any], key: str, value: Any, line: str) -> None:
    message = said(recipe["verb"], changed(recipe, key, value))
    assert line in message
    assert message.startswith("r.yaml"), "the file is named"


def test_every_precision_is_named(said: Any) -> None:
    assert "'bf16-mixed'" in said("fit", changed(FIT, "trainer.precision", "int4"))


@pytest.mark.parametrize("verb", ["fit", "validate", "preview", "prepare", "export", "study"])
def test_a_command_line_without_a_recipe(said: Any, verb: str) -> None:
    assert said(verb, None) == f"phi3kit {verb} needs a recipe: give --recipe FILE"
    assert "did you mean `phi3kit" in said(verb, None, "r.yaml")
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/config.yaml").write_text("verb: fit\n")
    assert said(verb, None, "runs/x").endswith(f"did you mean `phi3kit {verb} --recipe runs/x/config.yaml`?")


def test_the_command_line(said: Any) -> None:
    assert said("fit", FIT, "--trainer.max_step", "3").endswith("did you mean 'trainer.max_steps'?")
    assert "'runs/x' belongs to no option" in said("fit", FIT, "runs/x")
    assert said("preview", PREPARE).endswith("`phi3kit preview` takes recipes of `phi3kit fit`")


def test_the_file_with_the_number_for_a_key_is_blamed(said: Any) -> None:
    Path("low.yaml").write_text(yaml.safe_dump(FIT))
    assert said("fit", "base: low.yaml\n3: 1\n").startswith("r.yaml: there is no key '3'")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\nseed: 2\n", "r.yaml:2: the key 'seed' stands in line 1 already; leave one of them out"),
        ("net: {dims: {a: 1,\n  a: 2}}\n", "r.yaml:2: the key 'a' stands in line 1 already; leave one of them out"),
        ("yes: 1\n", "r.yaml:1: a key must be a name, got 'yes'; quote it if it is one"),
        ("a: &a [*a]\n", "r.yaml is not YAML: an anchor holds itself"),
        ("a: !!set {b}\n", "r.yaml is not YAML: a set is no value of a recipe"),
        ("a: " + "[" * 5000, "r.yaml:1 is not YAML: exceeded maximum nesting depth"),
        (
            "a: &a [" + "x," * 99 + "x]\n" + "".join(f"{n}: &{n} [{f'*{p},' * 99}]\n" for p, n in ("ab", "bc", "cd")),
            "r.yaml is not YAML: it stands for more than 1,000,000 values",
        ),
    ],
    ids=["twice", "twice inside", "bool", "ring", "set", "deep", "many"],
)
def test_yaml(said: Any, text: str, line: str) -> None:
    assert said("fit", text).startswith(line)


def test_dates_stay_text_and_short_floats_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: 2026-01-02\nb: 1e-5\nc: 3\nd: 1.5\ne: 1e3x\nf: ~/data\n")
    content = recipes.read_layers(tmp_path / "r.yaml")[0].content
    assert content == {"a": "2026-01-02", "b": 1e-5, "c": 3, "d": 1.5, "e": "1e3x", "f": os.path.expanduser("~/data")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads and writes everything")
def test_permissions(said: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("verb: fit\n")
    (tmp_path / "secret.yaml").chmod(0)
    assert "cannot read the recipe secret.yaml: Permission denied" in said("fit", None, "--recipe", "secret.yaml")
    (tmp_path / "full").mkdir(mode=0o500)
    with pytest.raises(UserError, match="permission denied"):
        check_out(tmp_path / "full" / "out")


def test_where_nothing_can_be_written(said: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out, line in (
        ("file", "out file is a file; give a folder with --out"),
        ("/dev/null/x", "out /dev/null/x lies below /dev/null, which is no folder; give a folder with --out"),
        ("/dev/full", "out /dev/full is a file; give a folder with --out"),
        ("link", f"out link is a link to {tmp_path / 'nowhere'}, which is not there; give another --out"),
    ):
        assert said("fit", FIT, "--out", out) == line
    assert check_out(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"


def test_other_files_in_the_out_folder(said: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    assert said("fit", FIT, "--out", "mine").startswith("mine holds other files (thesis.txt); give a new or an empty")
    check_no_strangers(tmp_path / "mine", ["thesis.txt"])


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = changed(changed(FIT, "data.init_args.folder", "~/data"), "start_from", "~/runs/x")
    (tmp_path / "low.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "r.yaml").write_text("base: ~/low.yaml\n")
    config = recipes.read("fit", fit.declare, ["--recipe", "~/r.yaml", "--out=~/out", "--tokenizer", "~/t"]).config
    assert (config.out, config.start_from) == (f"{tmp_path}/out", tmp_path / "runs/x")
    assert (config.data.init_args.folder, config.tokenizer) == (tmp_path / "data", tmp_path / "t")


def test_a_net_larger_than_the_machine() -> None:
    with pytest.raises(UserError, match=r"about .* numbers, .* GB of weights, and this machine has"):
        check_room(Dims(vocab_size=96, hidden_size=1_000_000, n_layers=2, n_heads=4))
    check_room(Dims(vocab_size=96, hidden_size=32, n_layers=2, n_heads=4))


def test_the_table_of_first_party_plugins() -> None:
    for distribution, names in plugins.FIRST_PARTY.items():
        module = importlib.import_module(distribution.replace("-", "_"))
        assert {cls.__name__ for cls in module.phi3kit_components()} == set(names)


@pytest.fixture
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plugins.load()
    own = plugins.Registry(tuple(c for c in whole.components if c.distribution == "phi3kit"), ())
    monkeypatch.setattr(plugins, "load", lambda: own)


@pytest.mark.usefixtures("without_plugins")
def test_a_missing_plugin_is_named(said: Any, tmp_path: Path) -> None:
    needs = "BlocksparseAttention needs the plugin phi3kit-blocksparse: pip install -e plugins/phi3kit-blocksparse"
    recipe = changed(FIT, "net.attention.0.class_path", "BlocksparseAttention")
    assert said("fit", recipe) == f"r.yaml: {needs}"
    with pytest.raises(UserError, match=needs):
        build_net(recipe["net"])
    strange = changed(FIT, "net.attention.0.class_path", "phi3kit_gated.attention.Gated")
    header = "# phi3kit 1\n# components: GatedMLP (phi3kit 1.0), Gated (phi3kit-gated 0.2.1)\n"
    (tmp_path / "config.yaml").write_text(header + yaml.safe_dump(strange))
    with pytest.raises(UserError, match=r"Gated needs the plugin phi3kit-gated 0\.2\.1, which is not installed here"):
        net_section(tmp_path)


def test_out_within_what_is_read(said: Any, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert "lies in" in said("prepare", PREPARE, "--out", "notes/data")
