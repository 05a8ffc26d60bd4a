"""A net of Phi-3-mini's architecture as a GGUF file, for the peers that read one. Needs ``pip install gguf``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
from torch import Tensor

from phi3kit.model import Decoder, LongRoPE
from phi3kit.model.position import inverse_frequencies, magnitude

TENSORS = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
}
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_gguf(net: Decoder, numbers: Callable[[str], Tensor], file: Path, kinds: dict[str, Any]) -> dict[str, int]:
    """The net as llama.cpp's architecture "phi3"; bytes of each matrix.

    Args:
        net: its shapes; it may be on the meta device.
        numbers: a parameter by our name.
        file: to write.
        kinds: type of a matrix by the beginning of its name, the first that fits; F32 where none does.
    """
    dims, writer = net.dims, gguf.GGUFWriter(str(file), "phi3", use_temp_file=True)
    writer.add_context_length(dims.context)
    writer.add_embedding_length(dims.hidden_size)
    writer.add_block_count(dims.n_layers)
    writer.add_feed_forward_length(net.layers[0].mlp.down_proj.in_features)
    writer.add_head_count(dims.n_heads)
    writer.add_head_count_kv(dims.kv_heads)
    writer.add_layer_norm_rms_eps(net.norm.eps)
    writer.add_rope_dimension_count(dims.head_width)
    writer.add_vocab_size(dims.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"[t{number}]" for number in range(dims.vocab_size)])
    writer.add_token_scores([0.0] * dims.vocab_size)
    writer.add_token_types([gguf.TokenType.NORMAL] * dims.vocab_size)
    size = {}
    for name, tensor in (*_factors(net, writer), *_named(net, numbers)):
        matrix = tensor.float().numpy()
        kind = next((k for start, k in kinds.items() if name.startswith(start)), None) if tensor.ndim == 2 else None
        if kind is not None:
            matrix = gguf.quants.quantize(matrix, kind)
        writer.add_tensor(name, matrix, raw_dtype=kind)
        if tensor.ndim == 2:
            size[name] = matrix.nbytes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return size


def _factors(net: Decoder, writer: gguf.GGUFWriter) -> Iterator[tuple[str, Tensor]]:
    """LongRoPE's factors, which are the list the net uses, in both lists."""
    if isinstance(net.position, LongRoPE):
        original = net.position.original_context
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(magnitude(net.dims.context, original))
        factors = inverse_frequencies(net.dims.head_width, 10000.0) / net.position.tables["long"].frequencies_F
        yield "rope_factors_long.weight", factors
        yield "rope_factors_short.weight", factors


def _named(net: Decoder, numbers: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The net's tensors under llama.cpp's names, one at a time."""
    for theirs, ours in TENSORS.items():
        yield f"{theirs}.weight", numbers(f"{ours}.weight")
    for layer in range(net.dims.n_layers):
        for theirs, ours in LAYER_TENSORS.items():
            yield f"blk.{layer}.{theirs}.weight", numbers(f"layers.{layer}.{ours}.weight")
