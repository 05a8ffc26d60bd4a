"""The pattern against the specification's golden vectors, and entry by entry against the rule."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from phi3kit_blocksparse.attention import BlocksparseAttention
from phi3kit_blocksparse.pattern import Pattern
from slow_phi3small import mask_of

from phi3kit.cli import main
from phi3kit.testing import tiny

SMALL = Pattern(heads=32, kv_heads=8, block=64, local=16, stride=8)  # Phi-3-small
SHAPES = [
    Pattern(8, 2, 4, 3, 8),
    Pattern(4, 2, 4, 2, 3),
    Pattern(6, 3, 3, 1, 2, homogeneous=True),
    Pattern(3, 1, 2, 2, 8),
    Pattern(12, 2, 5, 2, 4),
]


def test_the_reports_figure():
    """Report, figure 1: 3 heads, 2 local blocks, stride 3; the last of 9 query blocks."""
    toy = Pattern(heads=3, kv_heads=3, block=1, local=2, stride=3)
    assert [toy.columns(head, 8) for head in range(3)] == [[2, 5, 7, 8], [1, 4, 7, 8], [0, 3, 6, 7, 8]]


def test_remote_columns_of_phi_3_small():
    assert [SMALL.first(head) for head in (0, 1, 7, 8, 31)] == [7, 6, 0, 7, 0]
    rows = SMALL.blocks(128)
    assert rows[0, 127].nonzero()[:, 0].tolist() == [*range(7, 112, 8), *range(112, 128)]
    assert torch.equal(rows[:24], rows[8:])


@pytest.mark.parametrize(("blocks", "last", "lowest", "highest"), [(128, 30, 0.323, 0.335), (512, 78, 0.177, 0.180)])
def test_density(blocks, last, lowest, highest):
    kept = SMALL.blocks(blocks)
    assert (kept[:, -1].sum(-1) == last).all()
    density = kept.sum((1, 2)) / (blocks * (blocks + 1) / 2)
    assert lowest <= density.min().round(decimals=3)
    assert density.max().round(decimals=3) <= highest


def test_union_over_heads():
    kept = SMALL.blocks(128)[:, -1]
    assert kept.any(0).all()
    assert (kept.unflatten(0, (8, 4)).any(1).sum(-1) == 72).all()


@pytest.mark.parametrize("pattern", [SMALL, *SHAPES])
def test_groups_hold_every_head_once(pattern):
    numbers = list(range(pattern.heads))
    kv = [head // (pattern.heads // pattern.kv_heads) for head in numbers]
    heads = [head for group in pattern.groups for head in numbers[group.heads]]
    assert sorted(heads) == numbers
    for group in pattern.groups:
        assert {pattern.first(head) for head in numbers[group.heads]} == {group.first}
        assert [kv[head] for head in numbers[group.heads]] == list(range(pattern.kv_heads))[group.kv_heads]
        assert group.size == len(numbers[group.heads])


@pytest.mark.parametrize("pattern", SHAPES)
def test_mask_columns_and_blocks_follow_the_rule(pattern):
    length, block = 43, pattern.block
    rule = {"block": block, "local": pattern.local, "stride": pattern.stride, "homo": pattern.homogeneous}
    wanted = mask_of(length, pattern.heads, **rule)
    assert torch.equal(pattern.mask(length, length), wanted)
    assert torch.equal(pattern.mask(7, length), wanted[:, -7:])
    blocks = pattern.blocks(length // block)
    for head in range(pattern.heads):
        for i in range(length // block):
            last_row = wanted[head, (i + 1) * block - 1, : (i + 1) * block].view(i + 1, block)
            assert last_row.all(-1).nonzero()[:, 0].tolist() == pattern.columns(head, i)
            assert blocks[head, i].nonzero()[:, 0].tolist() == pattern.columns(head, i)


def test_attention_says_its_pattern():
    attention = BlocksparseAttention(tiny.dims(), 0, block_size=4, local_blocks=2, vertical_stride=3)
    assert torch.equal(attention.pattern(30), mask_of(30, 4, block=4, local=2, stride=3, homo=False))


NET = {
    "dims": {"vocab_size": 64, "hidden_size": 24, "n_layers": 2, "n_heads": 3, "context": 576},
    "attention": [
        {"class_path": "BlocksparseAttention", "init_args": {"local_blocks": 2, "vertical_stride": 3}},
        {"class_path": "GroupedDenseAttention"},
    ],
    "feed_forward": [{"class_path": "GEGELUMLP"}],
    "position": {"class_path": "RoPE"},
}


def test_the_reports_figure_is_drawn(tmp_path, capsys):
    """`phi3kit pattern` on that geometry: the kept cells of each panel's last row are the golden vector."""
    (tmp_path / "net.yaml").write_text(yaml.safe_dump({"net": NET}))
    out = tmp_path / "figure.svg"
    assert main(["pattern", "--recipe", str(tmp_path / "net.yaml"), "--block", "64", "--out", str(out)]) == 0
    assert "4 patterns, 576 tokens in blocks of 64" in capsys.readouterr().out
    sparse = out.read_text().split("<g transform='translate")
    rows = []
    for panel in sparse:
        skipped = re.search(r"<path fill='#e4e7eb' d='([^']*)'", panel)
        if skipped:
            runs = [(int(j), int(length)) for j, length in re.findall(r"M(\d+) 8h(\d+)", skipped[1])]
            rows.append(sorted(set(range(9)) - {j + n for j, length in runs for n in range(length)}))
    assert rows == [[2, 5, 7, 8], [1, 4, 7, 8], [0, 3, 6, 7, 8], list(range(9))]
