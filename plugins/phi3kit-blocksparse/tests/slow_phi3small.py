"""Phi-3-small once more, slowly, by loops and dense masks, from the specification alone, over public tensor names.

Nothing here is shared with the code under test. `state` holds a checkpoint's tensors, `config` its config.json.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

DUMMIES = {100256, 100258, 100259, 100260, 100264, 100265} | set(range(100267, 100352))


def kept(query: int, key: int, head: int, n_heads: int, *, block: int, local: int, stride: int, homo: bool) -> bool:
    """Whether a blocksparse layer lets a query token see a key token (spec sheet, section 2.3)."""
    if key > query:
        return False
    i, j = query // block, key // block
    step = 0 if homo else max(1, math.floor(stride / n_heads))
    return i - j < local or (j + head * step + 1) % stride == 0


def mask_of(length: int, n_heads: int, **rule: Any) -> Tensor:
    """[H, T, T] bool, entry by entry."""
    rows = [
        [[kept(q, k, head, n_heads, **rule) for k in range(length)] for q in range(length)] for head in range(n_heads)
    ]
    return torch.tensor(rows)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """[T, H, K] queries over [T, G, K] keys and values, head by head, with a dense mask [H, T, T]."""
    heads, share = q.shape[1], q.shape[1] // k.shape[1]
    outs = []
    for h in range(heads):
        scores = (q[:, h] @ k[:, h // share].T) * scale
        weights = torch.softmax(scores.masked_fill(~mask[h], float("-inf")), dim=-1)
        outs.append(weights @ v[:, h // share])
    return torch.stack(outs, dim=1)


def rotated(x: Tensor, frequencies: Tensor, magnitude: float) -> Tensor:
    """[T, heads, K]: coordinate n turns with coordinate n + K/2, token by token."""
    half, out = x.shape[-1] // 2, torch.empty_like(x)
    for t in range(x.shape[0]):
        for n in range(half):
            c, s = magnitude * math.cos(t * frequencies[n]), magnitude * math.sin(t * frequencies[n])
            out[t, :, n] = x[t, :, n] * c - x[t, :, n + half] * s
            out[t, :, n + half] = x[t, :, n + half] * c + x[t, :, n] * s
    return out


def frequencies(config: dict[str, Any], length: int) -> tuple[Tensor, float]:
    """1 / wavelengths, and the factor on cosines and sines (spec sheet, section 2.2)."""
    width = config["hidden_size"] // config["num_attention_heads"]
    plain = [config["rope_embedding_base"] ** (-2 * n / width) for n in range(width // 2)]
    rope = config.get("rope_scaling")
    if rope is None:
        return torch.tensor(plain, dtype=torch.float64), 1.0
    original = config["original_max_position_embeddings"]
    long = length > original
    usual = math.sqrt(1 + math.log(config["max_position_embeddings"] / original) / math.log(original))
    given = rope.get("long_mscale" if long else "short_mscale", -1)
    magnitude = given if given > 0 else (usual if long else 1.0)
    factors = rope["long_factor" if long else "short_factor"]
    return torch.tensor([f / factor for f, factor in zip(plain, factors, strict=True)], dtype=torch.float64), magnitude


def gegelu(row: list[float], limit: float) -> list[float]:
    """Pairs (gated, linear) of one token's up-projection."""
    out = []
    for a, b in zip(row[0::2], row[1::2], strict=True):
        a = a if math.isinf(a) else min(a, limit)
        b = b if math.isinf(b) else max(-limit, min(b, limit))
        out.append(a / (1 + math.exp(-1.702 * a)) * (b + 1))
    return out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) * weight + bias


def logits(state: dict[str, Tensor], config: dict[str, Any], ids: list[int]) -> Tensor:
    """[T, V] in fp64."""
    state = {name: tensor.double() for name, tensor in state.items()}
    n_heads, n_kv = config["num_attention_heads"], config["num_key_value_heads"]
    width, length = config["hidden_size"] // n_heads, len(ids)
    turn = frequencies(config, length)
    rule = {
        "block": config["blocksparse_block_size"],
        "local": config["blocksparse_num_local_blocks"],
        "stride": config["blocksparse_vert_stride"],
        "homo": config["blocksparse_homo_head_pattern"],
    }
    x = state["model.embed_tokens.weight"][ids] * config["mup_embedding_multiplier"]
    for layer in range(config["num_hidden_layers"]):
        at = lambda name, layer=layer: state[f"model.layers.{layer}.{name}"]  # noqa: E731
        y = layer_norm(x, at("input_layernorm.weight"), at("input_layernorm.bias"), config["layer_norm_epsilon"])
        rows = y @ at("self_attn.query_key_value.weight").T + at("self_attn.query_key_value.bias")
        q, k, v = [], [], []
        share = n_heads // n_kv
        for g in range(n_kv):
            for n in range(share + 2):
                part = rows[:, (g * (share + 2) + n) * width :][:, :width]
                (q if n < share else k if n == share else v).append(part)
        q, k, v = (torch.stack(parts, dim=1) for parts in (q, k, v))
        dense = (layer + 1) % config["dense_attention_every_n_layers"] == 0
        mask = torch.ones(n_heads, length, length).tril().bool() if dense else mask_of(length, n_heads, **rule)
        mixed = attention(rotated(q, *turn), rotated(k, *turn), v, mask, config["mup_attn_multiplier"] / width)
        x = x + mixed.flatten(1) @ at("self_attn.dense.weight").T + at("self_attn.dense.bias")
        norm = "post_attention_layernorm"
        y = layer_norm(x, at(f"{norm}.weight"), at(f"{norm}.bias"), config["layer_norm_epsilon"])
        up = y @ at("mlp.up_proj.weight").T + at("mlp.up_proj.bias")
        inner = torch.tensor([gegelu(row, config["gegelu_limit"]) for row in up.tolist()], dtype=torch.float64)
        x = x + inner @ at("mlp.down_proj.weight").T + at("mlp.down_proj.bias")
    norm = "model.final_layernorm"
    x = layer_norm(x, state[f"{norm}.weight"], state[f"{norm}.bias"], config["layer_norm_epsilon"])
    scores = x @ state["model.embed_tokens.weight"].T / config["mup_width_multiplier"]
    for i in DUMMIES:
        if i < scores.shape[1]:
            scores[:, i] = torch.finfo(torch.float32).min
    return scores


def config(**changes: Any) -> dict[str, Any]:
    """A shrunk config.json with everything of the real one (spec sheet, section 1.5), but for `changes`."""
    return {
        "architectures": ["Phi3SmallForCausalLM"],
        "model_type": "phi3small",
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "ff_intermediate_size": 96,
        "ff_dim_multiplier": None,
        "hidden_act": "gegelu",
        "gegelu_limit": 20.0,
        "gegelu_pad_to_256": True,
        "layer_norm_epsilon": 1e-5,
        "rope_embedding_base": 1000000,
        "rope_position_scale": 1.0,
        "rope_scaling": None,
        "max_position_embeddings": 128,
        "blocksparse_homo_head_pattern": False,
        "blocksparse_block_size": 4,
        "blocksparse_num_local_blocks": 3,
        "blocksparse_vert_stride": 8,
        "blocksparse_triton_kernel_block_size": 64,
        "dense_attention_every_n_layers": 2,
        "mup_use_scaling": True,
        "mup_width_multiplier": 8.0,
        "mup_embedding_multiplier": 10.0,
        "mup_attn_multiplier": 1.0,
        "embedding_dropout_prob": 0.1,
        "ffn_dropout_prob": 0.1,
        "attention_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "pad_sequence_to_multiple_of_64": True,
        "reorder_and_upcast_attn": False,
        "attention_bias": False,
        "bos_token_id": 100257,
        "eos_token_id": 100257,
        **changes,
    }
