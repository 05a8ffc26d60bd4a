"""The components keep the laws of their families, and phi3kit finds them."""

from __future__ import annotations

from functools import partial

import pytest
from phi3kit_blocksparse import phi3kit_components
from phi3kit_blocksparse.attention import BlocksparseAttention, GroupedDenseAttention
from phi3kit_blocksparse.feed_forward import GEGELUMLP
from phi3kit_blocksparse.layout import Phi3SmallLayout
from slow_phi3small import config

from phi3kit import UserError, plugins
from phi3kit.testing import contracts, tiny

BUILDS = [
    (BlocksparseAttention, BlocksparseAttention),
    (BlocksparseAttention, partial(BlocksparseAttention, block_size=4, local_blocks=2, vertical_stride=3)),
    (BlocksparseAttention, partial(BlocksparseAttention, block_size=8, local_blocks=1, vertical_stride=8)),
    (BlocksparseAttention, partial(BlocksparseAttention, block_size=5, local_blocks=2, homogeneous_heads=True)),
    (BlocksparseAttention, partial(BlocksparseAttention, block_size=1, local_blocks=4, scale=0.5)),
    (GroupedDenseAttention, GroupedDenseAttention),
    (GEGELUMLP, GEGELUMLP),
    (GEGELUMLP, partial(GEGELUMLP, limit=None, dropout=0.1)),
    (Phi3SmallLayout, Phi3SmallLayout),
]
LONG = {
    "type": "su",
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.5, 2.0, 4.0, 8.0],
    "short_mscale": 1.1,
    "long_mscale": 1.25,
    "original_max_position_embeddings": 32,
}
CONFIGS = [
    config(),
    config(rope_scaling=LONG, original_max_position_embeddings=32),
    config(rope_scaling={k: v for k, v in LONG.items() if "mscale" not in k}, tie_word_embeddings=False),
    config(dense_attention_every_n_layers=3, num_hidden_layers=3, blocksparse_homo_head_pattern=True),
    config(dense_attention_every_n_layers=None, num_hidden_layers=1, gegelu_limit=None, mup_use_scaling=False),
    config(mup_attn_multiplier=2.0, mup_width_multiplier=7.0, vocab_size=100352, hidden_size=16, num_hidden_layers=1),
]


@pytest.mark.parametrize(("component", "build"), BUILDS)
def test_component_keeps_the_laws_of_its_family(component, build):
    contracts.check(component, build)


@pytest.mark.parametrize("fields", CONFIGS)
def test_layout_keeps_its_laws(fields):
    names = [f"model.layers.{n}.self_attn.rotary_emb.inv_freq" for n in range(fields["num_hidden_layers"])]
    contracts.check_layout(Phi3SmallLayout, fields, names)


def test_phi3kit_finds_the_components():
    registry = plugins.load()
    found = {c.cls for c in registry.components if c.distribution == "phi3kit-blocksparse"}
    assert found == set(phi3kit_components()), registry.faults


def test_a_size_of_nothing_is_refused():
    with pytest.raises(UserError, match="vertical_stride is 0; give at least 1"):
        BlocksparseAttention(tiny.dims(), 0, vertical_stride=0)
