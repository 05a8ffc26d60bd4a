"""What has no weights still changes a net: a published checkpoint under another recipe's net is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from phi3kit import UserError
from phi3kit.model.load import check_run
from phi3kit.serve.load import load
from phi3kit.verbs.net_change import check_net_change

NET: dict[str, Any] = {
    "dims": {"vocab_size": 300, "hidden_size": 64, "n_layers": 2, "n_heads": 2, "context": 64},
    "attention": [{"class_path": "GroupedQueryAttention", "init_args": {"window": 16}}],
    "feed_forward": [{"class_path": "GatedMLP"}],
    "position": {"class_path": "RoPE"},
}
FACTORS = [1.0] * 16
LONG = {
    "class_path": "LongRoPE",
    "init_args": {"original_context": 64, "short_factor": FACTORS, "long_factor": FACTORS},
}


def run(folder: Path, *, public: bool) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"verb": "fit", "net": NET}))
    if public:
        (folder / "hugging_face").mkdir()
    return folder


def net(**parts: Any) -> dict[str, Any]:
    return copy.deepcopy(NET) | parts


CHANGED = [
    (net(position=LONG), "net.position RoPE -> LongRoPE"),
    (net(dims=NET["dims"] | {"context": 128}), "net.dims.context 64 -> 128"),
    (net(attention=[{"class_path": "GroupedQueryAttention"}]), "net.attention.0.window 16 -> null"),
    (net(position={"class_path": "RoPE", "init_args": {"theta": 9.0}}), "net.position.theta 10000.0 -> 9.0"),
    (net(attention=[*NET["attention"], {"class_path": "GroupedQueryAttention"}]), "net.attention.1.window 16 -> null"),
]


@pytest.mark.parametrize(("section", "said"), CHANGED, ids=[said for _, said in CHANGED])
def test_a_published_net_is_trained_as_it_is_or_changed_on_purpose(section: Any, said: str, tmp_path: Path) -> None:
    public = run(tmp_path / "public", public=True)
    with pytest.raises(UserError, match="is a published net") as error:
        check_net_change(public, section, meant=False)
    assert said in str(error.value)
    assert f"--recipe {public / 'config.yaml'}" in str(error.value)
    assert "--changes_net true" in str(error.value)
    assert check_net_change(public, section, meant=True).endswith(said)
    assert check_net_change(run(tmp_path / "own", public=False), section, meant=False).endswith(said)


def test_the_same_net_is_passed_over(tmp_path: Path) -> None:
    public = run(tmp_path / "public", public=True)
    twice = net(attention=2 * NET["attention"], position={"class_path": "phi3kit.model.RoPE"}, embedding_dropout=0.1)
    for section in (NET, twice):
        assert check_net_change(public, section, meant=False) == ""


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    public, bundle, other = (tmp_path / name for name in ("plain", "bundle", "other"))
    for folder, file in ((public, "config.json"), (bundle, "bundle.json"), (other, "notes.txt")):
        folder.mkdir()
        (folder / file).write_text("{}")
    for open_it in (check_run, load):
        with pytest.raises(UserError, match=f"public checkpoint.*phi3kit convert {public} runs/plain"):
            open_it(public)
    with pytest.raises(UserError, match="is a bundle, not a run"):
        check_run(bundle)
    with pytest.raises(UserError, match=r"it has no config\.yaml"):
        check_run(other)
    with pytest.raises(UserError, match="there is no run at"):
        check_run(tmp_path / "missing")
