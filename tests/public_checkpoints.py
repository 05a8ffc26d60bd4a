"""Small checkpoint folders as the public repositories lay them out: config.json, shards, index, tokenizer, code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

SHORT, LONG = [1.0, 1.02, 1.03, 1.05, 1.07, 1.1, 1.3, 1.9], [1.08, 1.2, 1.6, 2.6, 4.8, 9.1, 30.4, 64.8]
INV_FREQ = "model.layers.0.self_attn.rotary_emb.inv_freq"

# Phi-3-mini-4k's fields (Phi-3-mini-4k-instruct/config.json), sizes aside
BASE: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 32000,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "model_type": "phi3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "original_max_position_embeddings": 128,
    "pad_token_id": 0,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 31,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.2",
    "use_cache": True,
    "vocab_size": 288,
}
EXTENDED = {
    "original_max_position_embeddings": 32,
    "sliding_window": 262144,
    "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG},
}
PARTIAL = {"type": "longrope", "short_factor": [1.0] * 6, "long_factor": LONG[:6]}
# each public model's peculiarities at a small size
MODELS: dict[str, dict[str, Any]] = {
    "mini-4k": BASE,
    "mini-128k": {**BASE, **EXTENDED},
    "mini-128k-april": {**BASE, **EXTENDED, "rope_scaling": {**EXTENDED["rope_scaling"], "type": "su"}},
    "medium-4k": {**BASE, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 80, "sliding_window": 47},
    "phi-4": {**BASE, "num_key_value_heads": 2, "sliding_window": None, "rope_theta": 250000.0, "pad_token_id": 3},
    "phi-4-mini": {
        **BASE, **EXTENDED, "rope_scaling": PARTIAL, "partial_rotary_factor": 0.75, "num_key_value_heads": 2,
        "tie_word_embeddings": True, "mlp_bias": False, "lm_head_bias": False, "full_attn_mod": 1,
        "interpolate_factor": 1,
    },
}  # fmt: skip


def tensors(config: dict[str, Any], dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the public names and shapes of a Phi3ForCausalLM."""
    hidden, heads, inner = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
    head_dim = hidden // heads
    rows = (heads + 2 * config["num_key_value_heads"]) * head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.qkv_proj.weight": (rows, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, heads * head_dim),
            f"{at}.mlp.gate_up_proj.weight": (2 * inner, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, inner),
            f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.post_attention_layernorm.weight": (hidden,),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    draw = torch.Generator().manual_seed(seed)
    random = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    return {name: (1 + 0.1 * x if x.ndim == 1 else 0.12 * x).to(dtype) for name, x in random.items()}


def write_checkpoint(
    folder: Path, config: dict[str, Any], weights: dict[str, Tensor] | None = None, *, shards: int = 2
) -> Path:
    """A checkpoint folder; returns it."""
    weights = tensors(config) if weights is None else weights
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    names, place = sorted(weights), {}
    for number in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        save_file({name: weights[name].contiguous() for name in mine}, folder / file, metadata={"format": "pt"})
        place |= dict.fromkeys(mine, file)
    if shards > 1:
        total = sum(tensor.nbytes for tensor in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": place}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder


def same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, byte for byte; says which differ."""
    left, right = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    )
    differing = sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
    assert not differing, f"{differing} differ"
    return bool(left)
