"""Parameter counts on the meta device, to the last one (the spec sheet's sections 1.12 and 1.13)."""

from __future__ import annotations

import pytest
import torch
from phi3kit_moe.layout import PhiMoELayout

from phi3kit.model.load import build_net

SIZES = {
    "architectures": ["PhiMoEForCausalLM"],
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 6400,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "num_local_experts": 16,
    "attention_bias": True,
    "lm_head_bias": True,
    "rope_theta": 10000.0,
}
MINI = {"intermediate_size": 960}
TINY = {"intermediate_size": 448, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128}


@pytest.mark.parametrize(
    ("changes", "total", "active"),
    [
        pytest.param({}, 41_873_153_344, 6_640_999_744, id="phi-3.5-moe"),
        # SlimMoE publishes 7.6B/2.4B and 3.8B/1.1B; these widths are inferred from the totals, no config was seen
        pytest.param(MINI, 7_647_632_704, 2_362_809_664, id="phi-mini-moe-inferred"),
        pytest.param(TINY, 3_755_220_288, 1_288_969_536, id="phi-tiny-moe-inferred"),
    ],
)
def test_parameters(changes, total, active):
    with torch.device("meta"):
        net = build_net(PhiMoELayout().net({**SIZES, **changes}))
    assert net.parameter_count() == total
    experts = sum(block.mlp.gate_up_proj.numel() + block.mlp.down_proj.numel() for block in net.layers)
    assert total - experts + experts * 2 // 16 == active
    if changes == TINY:
        assert active - net.embed_tokens.weight.numel() == 1_157_635_392  # "1.1B" without the input embedding
