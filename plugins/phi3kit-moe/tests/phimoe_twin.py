"""A small Phi-3.5-MoE, and transformers' model with the same weights, opened from a checkpoint folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from phi3kit_moe.layout import PhiMoELayout
from safetensors.torch import save_file

from phi3kit.model import Decoder
from phi3kit.model.load import build_net

MSCALE = 1.243163121016122
CONFIG: dict[str, Any] = {
    "architectures": ["PhiMoEForCausalLM"],
    "model_type": "phimoe",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "original_max_position_embeddings": 16,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0, 1.04, 1.04, 1.04, 1.05, 1.05, 1.05, 1.05],
        "long_factor": [1.02, 1.03, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0],
        "short_mscale": MSCALE,
        "long_mscale": MSCALE,
        "original_max_position_embeddings": 16,
    },
    "sliding_window": 64,
    "attention_bias": True,
    "lm_head_bias": True,
    "router_jitter_noise": 0.01,
    "input_jitter_noise": 0.0,
    "router_aux_loss_coef": 0.02,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def config(**changes: Any) -> dict[str, Any]:
    """`CONFIG` with other fields; a field set to `...` is left out."""
    changed = {**copy.deepcopy(CONFIG), **changes}
    return {name: value for name, value in changed.items() if value is not ...}


def random_net(fields: dict[str, Any], seed: int = 0) -> Decoder:
    """The net of a config.json with random weights, biases and norms included, in evaluation mode."""
    torch.manual_seed(seed)
    net = build_net(PhiMoELayout().net(fields))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif ".router." in name:
                parameter.mul_(4.0)  # scores far enough apart that some experts are out of the running
    return net.eval()


def write_checkpoint(net: Decoder, fields: dict[str, Any], folder: Path) -> Path:
    """config.json and model.safetensors under the public names."""
    state = net.state_dict()
    tensors = {part.theirs: state[part.ours][part.place].clone() for part in PhiMoELayout().parts(net)}
    (folder / "config.json").write_text(json.dumps(fields))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def transformers_twin(net: Decoder, fields: dict[str, Any], folder: Path) -> Any:
    """transformers' model of the same weights, through its own loading; in evaluation mode."""
    from transformers import AutoModelForCausalLM
    from transformers.models.phimoe.modeling_phimoe import PhimoeForCausalLM

    dtype = net.lm_head.weight.dtype
    twin, report = AutoModelForCausalLM.from_pretrained(
        write_checkpoint(net, fields, folder), dtype=dtype, output_loading_info=True
    )
    assert isinstance(twin, PhimoeForCausalLM)
    assert not report["missing_keys"], report
    assert not report["unexpected_keys"], report
    return twin.eval()


def tokens(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Random ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CONFIG["vocab_size"], (rows, length), generator=generator)
