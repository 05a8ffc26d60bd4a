"""`pattern` draws what the attention says: the cells of the picture are the cells of its pattern."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from phi3kit import cli
from phi3kit.verbs.pattern import cells, local_cells, numbered
from phi3kit.verbs.pattern_picture import COLOURS, Panel, picture

NET = """
net:
  dims: {vocab_size: 64, hidden_size: 32, n_layers: 3, n_heads: 4, context: 96}
  attention:
  - class_path: GroupedQueryAttention
    init_args: {window: 16}
  - class_path: GroupedQueryAttention
  feed_forward: [{class_path: GatedMLP}]
  position: {class_path: RoPE}
"""
SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> list[dict[str, set[tuple[int, int]]]]:
    """Of each panel, the cells of each kind, read from the paths."""
    panels = []
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        paths = {path.get("fill"): path.get("d") for path in group.iter(f"{SVG}path")}
        if paths:
            kinds = {}
            for kind, colour in COLOURS.items():
                runs = re.findall(r"M(\d+) (\d+)h(\d+)", paths[colour])
                kinds[kind] = {(int(i), int(j) + n) for j, i, length in runs for n in range(int(length))}
            panels.append(kinds)
    return panels


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_recipes_layers_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    out = tmp_path / "picture.svg"
    command = ["pattern", "--recipe", str(tmp_path / "net.yaml"), "--tokens", "60", "--block", "8", "--out", str(out)]
    assert cli.main(command) == 0
    assert "2 patterns, 60 tokens in blocks of 8; GroupedQueryAttention, layer 1" in capsys.readouterr().out
    window, dense = drawn(out.read_text())
    triangle = {(i, j) for i in range(8) for j in range(i + 1)}
    assert dense == {"local": triangle, "remote": set(), "skipped": set()}
    assert window["local"] == {(i, j) for i, j in triangle if i - j <= 2}  # 16 tokens may lie in three blocks of 8
    assert window["skipped"] == triangle - window["local"]
    said = texts(out.read_text())
    assert "GroupedQueryAttention, layers 0, 2" in said
    assert "58.3 % of the blocks" in said
    assert any("60 tokens, a cell is 8 tokens each way" in text for text in said)


def test_recipes_layer_and_sizes_have_defaults(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "other.yaml").write_text("net: {attention: [{class_path: GroupedQueryAttention}]}")
    recipes = [part for name in ("net", "other") for part in ("--recipe", str(tmp_path / f"{name}.yaml"))]
    assert cli.main(["pattern", *recipes, "--out", str(tmp_path / "p.svg")]) == 0
    (panel,) = drawn((tmp_path / "p.svg").read_text())
    assert len(panel["local"]) == 96 * 97 / 2


def test_heads_of_their_own_and_remote_cells() -> None:
    """The report's figure 1, drawn: 9 blocks, 2 local, every third of the others."""
    i, j = torch.arange(9)[:, None], torch.arange(9)
    seen = torch.stack([(j <= i) & ((i - j < 2) | ((j + head + 1) % 3 == 0)) for head in range(3)])
    assert local_cells(seen) == 2
    panels = [Panel("Sparse", f"head {head}", seen[head].tolist(), 2) for head in range(3)]
    svg = picture(panels, 576, 64)
    last_rows = [sorted(j for kind in ("local", "remote") for i, j in p[kind] if i == 8) for p in drawn(svg)]
    assert last_rows == [[2, 5, 7, 8], [1, 4, 7, 8], [0, 3, 6, 7, 8]]
    assert {j for i, j in drawn(svg)[1]["remote"]} == {1, 4}
    assert "Sparse sees 53.3 to 64.4 % of those up to the diagonal" in " ".join(texts(svg))


def test_a_cell_is_seen_where_any_of_its_tokens_is() -> None:
    seen = torch.zeros(1, 5, 5, dtype=torch.bool)
    seen[0, 4, 1] = True
    assert cells(seen, 2)[0].tolist() == [[False] * 3, [False] * 3, [True, False, False]]


def test_numbers_are_shortened() -> None:
    assert numbered("head", [3]) == "head 3"
    assert numbered("layer", range(0, 32, 2)) == "layers 0, 2, 4, 6, …"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokens", "97"], "--tokens 97 does not fit; the net's context is 96"),
        (["--tokens", "32", "--block", "33"], "--block 33 does not fit into 32 tokens; 1 gives 64 cells"),
        (["--out", "nowhere/p.svg"], "cannot write nowhere/p.svg: No such file or directory; name another file"),
    ],
)
def test_mistakes(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    assert cli.main(["pattern", "--recipe", str(tmp_path / "net.yaml"), *options]) == 2
    assert message in capsys.readouterr().err


def test_too_long_and_no_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.yaml").write_text(NET.replace("context: 96", "context: 131072"))
    assert cli.main(["pattern", "--recipe", str(tmp_path / "net.yaml"), "--tokens", "131072"]) == 2
    assert "--tokens 131072 needs 64 GB for 4 heads; give at most 46340" in capsys.readouterr().err
    (tmp_path / "net.yaml").write_text("verb: prepare")
    assert cli.main(["pattern", "--recipe", str(tmp_path / "net.yaml")]) == 2
    assert "describes no net" in capsys.readouterr().err
