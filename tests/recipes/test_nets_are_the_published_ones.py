"""A recipe's net, written as config.json by its layout, says what the released config.json says (the sizes, not the
lists that were never printed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from recipe_folders import RECIPES, content, lacks_factors, need_plugin, with_factors

from phi3kit import recipe as recipes
from phi3kit.checkpoints.layouts import layout_of_net
from phi3kit.model.load import whole_section
from phi3kit.verbs import fit

PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "attention_bias": False, "attention_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
    "initializer_range": 0.02, "original_max_position_embeddings": 4096,
}  # fmt: skip
MINI = PHI3 | {
    "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": False,
}  # fmt: skip
MEDIUM = MINI | {
    "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40, "num_attention_heads": 40,
    "num_key_value_heads": 10,
}  # fmt: skip
MINI4 = MINI | {
    "vocab_size": 200064, "num_attention_heads": 24, "num_key_value_heads": 8, "tie_word_embeddings": True,
    "partial_rotary_factor": 0.75,
}  # fmt: skip
SMALL = {
    "architectures": ["Phi3SmallForCausalLM"], "model_type": "phi3small", "vocab_size": 100352, "hidden_size": 4096,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "ff_intermediate_size": 14336,
    "ff_dim_multiplier": None, "hidden_act": "gegelu", "gegelu_limit": 20.0, "layer_norm_epsilon": 1e-5,
    "rope_embedding_base": 1000000, "rope_position_scale": 1.0, "blocksparse_homo_head_pattern": False,
    "blocksparse_block_size": 64, "blocksparse_num_local_blocks": 16, "blocksparse_vert_stride": 8,
    "dense_attention_every_n_layers": 2, "mup_use_scaling": True, "mup_width_multiplier": 8.0,
    "mup_embedding_multiplier": 10.0, "mup_attn_multiplier": 1.0, "embedding_dropout_prob": 0.1,
    "ffn_dropout_prob": 0.1, "attention_dropout_prob": 0.0, "initializer_range": 0.02, "tie_word_embeddings": True,
}  # fmt: skip
MOE = {
    "architectures": ["PhiMoEForCausalLM"], "model_type": "phimoe", "vocab_size": 32064, "hidden_size": 4096,
    "intermediate_size": 6400, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "num_local_experts": 16, "num_experts_per_tok": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "sliding_window": 131072, "attention_bias": True, "lm_head_bias": True,
    "router_jitter_noise": 0.01, "input_jitter_noise": 0.01, "tie_word_embeddings": False,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "phi3-mini/net": MINI | {"max_position_embeddings": 4096, "sliding_window": 2047, "rope_scaling": None},
    "phi3-mini/net-128k": MINI | {"max_position_embeddings": 131072},
    "phi3-mini/net-128k-april": MINI | {"max_position_embeddings": 131072},
    "phi35-mini/net": MINI | {"max_position_embeddings": 131072},
    "phi3-medium/net": MEDIUM | {"max_position_embeddings": 4096, "sliding_window": 2047, "rope_scaling": None},
    "phi3-medium/net-128k": MEDIUM | {"max_position_embeddings": 131072},
    "phi4-mini/net": MINI4 | {"max_position_embeddings": 131072},
    "phi4-mini-reasoning/net": MINI4 | {"max_position_embeddings": 131072},
    "phi3-small/net": SMALL | {"max_position_embeddings": 8192, "rope_scaling": None},
    "phi3-small/net-128k": SMALL | {"max_position_embeddings": 131072, "original_max_position_embeddings": 8192},
    "phi35-moe/net": MOE | {"max_position_embeddings": 131072},
    "phi-mini-moe/net": MOE | {"max_position_embeddings": 131072, "intermediate_size": 960},
    "phi-tiny-moe/net": MOE
    | {"max_position_embeddings": 131072, "intermediate_size": 448}
    | {"num_attention_heads": 16, "num_key_value_heads": 4},
    "phi3-vision/net": MINI
    | {"architectures": ["Phi3VForCausalLM"], "model_type": "phi3_v"}
    | {"max_position_embeddings": 131072, "sliding_window": 131072},
    "phi35-vision/net": MINI
    | {"architectures": ["Phi3VForCausalLM"], "model_type": "phi3_v", "max_position_embeddings": 131072},
}


@pytest.mark.parametrize("net", CONFIGS)
def test_config_json_of_a_recipes_net(net: str, tmp_path: Path) -> None:
    file = RECIPES / f"{net}.yaml"
    need_plugin(file.parent)
    files = with_factors([file], tmp_path)
    section = content(*files)["net"]
    line = [part for file in files for part in ("--recipe", str(file))]
    trained = yaml.safe_load(recipes.read("fit", fit.declare, line).text())["net"]
    assert whole_section(trained) == whole_section(section), "what `fit` trains is what is compared here"
    layout = layout_of_net(whole_section(section))
    config = layout.config(whole_section(section))
    assert {name: config.get(name) for name in CONFIGS[net]} == CONFIGS[net]
    if not lacks_factors(content(file)) and section["position"]["class_path"] == "LongRoPE":
        for name in ("short_factor", "long_factor"):
            assert config["rope_scaling"][name] == section["position"]["init_args"][name]
    # There and back: the net that the converter reads from that config.json has the same config.json.
    assert layout.config(whole_section(layout.net(config))) == config
