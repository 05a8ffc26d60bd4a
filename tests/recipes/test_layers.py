"""Layers merge in one way for all verbs: a list replaces a list, a mapping merges, a changed class drops arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from phi3kit import UserError
from phi3kit import recipe as recipes
from phi3kit.verbs import fit

WINDOWED = {"class_path": "GroupedQueryAttention", "init_args": {"window": 16}}
THETA = {"theta": 5000.0}
LOSSES = {
    "class_path": "LossByLength",
    "init_args": {"folder": "d", "part": "web", "lengths": [8], "before": {"class_path": "RoPE"}},
}
LOW: dict[str, Any] = {
    "net": {
        "dims": {"vocab_size": 300, "hidden_size": 64, "n_layers": 2, "n_heads": 2, "context": 64},
        "attention": [WINDOWED, WINDOWED],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE", "init_args": THETA},
    },
    "trainer": {
        "max_steps": 3,
        "callbacks": [LOSSES],
    },
}


def merged(*contents: dict[str, Any]) -> dict[str, Any]:
    return recipes.merge([recipes.Layer(f"{number}.yaml", content) for number, content in enumerate(contents)])


@pytest.mark.parametrize(
    ("high", "attention"),
    [
        ([{"class_path": "GroupedQueryAttention"}], [{"class_path": "GroupedQueryAttention"}]),
        ({0: {"init_args": {"window": None}}}, [WINDOWED | {"init_args": {"window": None}}, WINDOWED]),
        ({1: {"class_path": "Other"}}, [WINDOWED, {"class_path": "Other"}]),
        ({0: {"init_args": {"qk": 1}}}, [WINDOWED | {"init_args": {"window": 16, "qk": 1}}, WINDOWED]),
        (None, None),
    ],
)
def test_a_list(high: Any, attention: Any) -> None:
    assert merged(LOW, {"net": {"attention": high}})["net"]["attention"] == attention
    assert merged(LOW)["net"]["attention"] == [WINDOWED, WINDOWED], "the layer below stays as it was"


def test_a_list_is_appended_to() -> None:
    high = {"trainer": {"callbacks+": [{"class_path": "A"}]}}
    callbacks = merged(LOW, high, {"trainer": {"callbacks+": {"class_path": "B"}}})["trainer"]["callbacks"]
    assert [callback["class_path"] for callback in callbacks] == ["LossByLength", "A", "B"]
    assert merged(high)["trainer"]["callbacks"] == [{"class_path": "A"}]


def test_an_entry_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"1\.yaml: net\.attention has no entry 2; the layers below"):
        merged(LOW, {"net": {"attention": {2: WINDOWED}}})


@pytest.mark.parametrize(
    ("high", "position"),
    [
        (
            {"init_args": {"rotary_fraction": 0.5}},
            {"class_path": "RoPE", "init_args": {"theta": 5000.0, "rotary_fraction": 0.5}},
        ),
        ({"class_path": "phi3kit.model.RoPE"}, {"class_path": "phi3kit.model.RoPE", "init_args": THETA}),
        ({"class_path": "LongRoPE"}, {"class_path": "LongRoPE"}),
        ("LongRoPE", {"class_path": "LongRoPE"}),
        ("RoPE", {"class_path": "RoPE", "init_args": THETA}),
    ],
)
def test_a_component(high: Any, position: Any) -> None:
    assert merged(LOW, {"net": {"position": high}})["net"]["position"] == position


def test_classes_of_one_name_and_two_packages_are_two() -> None:
    low = {"a": {"class_path": "phi3kit.model.RoPE", "init_args": {"theta": 1.0}}}
    assert merged(low, {"a": {"class_path": "acme.model.RoPE"}}) == {"a": {"class_path": "acme.model.RoPE"}}


def test_whole_numbers_are_keys_where_no_list_is_below() -> None:
    scheduling = {"init_args": {"scheduling": {0: 8, 4: 2}}}
    assert merged({"a": scheduling}, {"a": {"init_args": {"scheduling": {4: 1}}}})["a"]["init_args"] == {
        "scheduling": {0: 8, 4: 1}
    }


def attention(tmp_path: Path, high: dict[str, Any], *line: str) -> list[dict[str, Any]]:
    """What `fit` makes of a layer and a command line over LOW."""
    (tmp_path / "low.yaml").write_text(yaml.safe_dump({"net": LOW["net"]}))
    (tmp_path / "high.yaml").write_text(yaml.safe_dump({"base": "low.yaml", **high}))
    config = recipes.read("fit", fit.declare, ["--recipe", str(tmp_path / "high.yaml"), *line]).config
    return [
        entry["init_args"]["window"] for entry in yaml.safe_load(yaml.safe_dump(config.as_dict()["net"]["attention"]))
    ]


@pytest.mark.parametrize(
    ("high", "line", "windows"),
    [
        ({"net": {"attention": [{"class_path": "GroupedQueryAttention"}]}}, (), [None]),
        ({"net": {"attention": {0: {"init_args": {"window": None}}}}}, (), [None, 16]),
        ({}, ("--net.attention", '[{"class_path": "GroupedQueryAttention"}]'), [None]),
        ({}, ('--net.attention=[{"class_path": "GroupedQueryAttention"}]',), [None]),
        ({}, ("--net.attention.0.init_args.window", "8"), [8, 16]),
        ({}, ("--net.attention+", '{"class_path": "GroupedQueryAttention"}'), [16, 16, None]),
        ({}, ("--net.dims.context=32", "--net.attention.1.init_args.window=null"), [16, None]),
    ],
)
def test_fit_reads_the_same(tmp_path: Path, high: dict[str, Any], line: tuple[str, ...], windows: list[Any]) -> None:
    assert attention(tmp_path, high, *line) == windows


def test_the_command_line_goes_over_all_layers(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(LOW))
    line = ["--recipe", str(tmp_path / "r.yaml"), "--net.position.init_args.theta", "9000", "--trainer.max_steps=7"]
    config = recipes.read("fit", fit.declare, [*line, "--trainer.callbacks.init_args.folder", "e"]).config
    assert (config.net.position.init_args.theta, config.trainer.max_steps) == (9000.0, 7)
    assert config.trainer.callbacks[0].init_args.folder == Path("e")


def test_a_component_on_the_command_line_drops_the_arguments_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(LOW))
    factors = ["--net.position.init_args.original_context", "16"]
    for name in ("short_factor", "long_factor"):
        factors += [f"--net.position.init_args.{name}", str([1.0] * 16)]
    for option in ("--net.position", "--net.position.class_path"):
        line = ["--recipe", str(tmp_path / "r.yaml"), option, "LongRoPE", *factors]
        assert recipes.read("fit", fit.declare, line).config.net.position.init_args.theta == 10000.0


def test_a_saved_recipe_reads_to_itself_and_goes_on_top(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(LOW))
    recipe = recipes.read("fit", fit.declare, ["--recipe", str(tmp_path / "r.yaml")])
    recipe.save(tmp_path / "config.yaml")
    again = ["--recipe", str(tmp_path / "config.yaml")]
    assert recipes.read("fit", fit.declare, again).text() == recipe.text()
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"net": {"attention": {0: {"init_args": {"window": 9}}}}}))
    over = recipes.read("fit", fit.declare, [*again, "--recipe", str(tmp_path / "other.yaml")])
    assert over.config.net.attention[0].init_args.window == 9
