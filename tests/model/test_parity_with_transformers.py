"""The net against transformers' Phi3ForCausalLM with the same random weights (fp32)."""

from __future__ import annotations

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from phi3kit import Decoder, Dims
from phi3kit.model import GatedMLP, GroupedQueryAttention, LongRoPE, RoPE, weights
from phi3kit.model.generate import generate

TOLERANCE = 1e-5
ORIGINAL, EXTENDED = 32, 128


def longrope_factors(rotary_dim: int) -> tuple[list[float], list[float]]:
    half = rotary_dim // 2
    return [1.0 + 0.05 * i for i in range(half)], [1.0 + 0.8 * i for i in range(half)]


def pair(
    heads: int, kv_heads: int, *, longrope: bool = False, window: int | None = None, tied: bool = False,
    head_dim: int = 16, layers: int = 3, hidden: int | None = None,
) -> tuple[Phi3ForCausalLM, Decoder]:  # fmt: skip
    """The same random weights in both."""
    torch.manual_seed(0)
    hidden = hidden or heads * head_dim
    short, long = longrope_factors(head_dim)
    scaling = {"type": "longrope", "short_factor": short, "long_factor": long} if longrope else None
    config = Phi3Config(
        vocab_size=211, hidden_size=hidden, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, rms_norm_eps=1e-5,
        max_position_embeddings=EXTENDED, original_max_position_embeddings=ORIGINAL if longrope else EXTENDED,
        rope_scaling=scaling, sliding_window=window, tie_word_embeddings=tied, pad_token_id=0,
        initializer_range=0.06, attn_implementation="eager",
    )  # fmt: skip
    theirs = Phi3ForCausalLM(config).eval()
    dims = Dims(
        vocab_size=211, hidden_size=hidden, n_layers=layers, n_heads=heads, n_kv_heads=kv_heads,
        intermediate_size=48, context=EXTENDED,
    )  # fmt: skip
    ours = Decoder(
        dims,
        [lambda d, i: GroupedQueryAttention(d, i, window=window)],
        [GatedMLP],
        (lambda d: LongRoPE(d, short, long, ORIGINAL)) if longrope else RoPE,
        tied=tied,
    ).eval()
    state = {weights.from_hugging_face(k): v for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return theirs, ours


def largest_difference(theirs: Phi3ForCausalLM, ours: Decoder, length: int, rows: int = 2) -> float:
    tokens = torch.randint(0, 211, (rows, length), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        return float((theirs(tokens).logits - ours(tokens)).abs().max())


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1), (8, 2)])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_logits_of_grouped_query_attention(heads: int, kv_heads: int, length: int) -> None:
    assert largest_difference(*pair(heads, kv_heads), length) <= TOLERANCE


@pytest.mark.parametrize("length", [ORIGINAL - 1, ORIGINAL, ORIGINAL + 1, EXTENDED])
def test_logits_with_longrope_on_both_sides_of_the_switch(length: int) -> None:
    assert largest_difference(*pair(4, 2, longrope=True), length) <= TOLERANCE


def test_logits_with_tied_embeddings() -> None:
    theirs, ours = pair(4, 4, tied=True)
    assert largest_difference(theirs, ours, 20) <= TOLERANCE
    assert ours.parameter_count() == theirs.num_parameters()


def test_sliding_window_means_the_same_number_of_tokens() -> None:
    """transformers masks ``key > query - window``: the same rule for the same number."""
    theirs, ours = pair(4, 4, window=5)
    assert largest_difference(theirs, ours, 40) <= TOLERANCE
    unlimited = pair(4, 4)[1]
    assert largest_difference(theirs, unlimited, 40) > 1e-2


def test_packed_documents_equal_separate_ones() -> None:
    _, ours = pair(4, 2)
    a, b = torch.randint(0, 211, (1, 9)), torch.randint(0, 211, (1, 6))
    positions = torch.cat((torch.arange(9), torch.arange(6)))[None]
    documents = torch.tensor([[0] * 9 + [1] * 6])
    with torch.no_grad():
        packed = ours(torch.cat((a, b), 1), positions, documents)
        separate = torch.cat((ours(a), ours(b)), 1)
        leaking = ours(torch.cat((a, b), 1), positions)
    assert float((packed - separate).abs().max()) <= TOLERANCE
    assert float((leaking - separate).abs().max()) > 1e-2


@pytest.mark.parametrize("longrope", [False, True])
def test_greedy_generation_equals_transformers_token_for_token(longrope: bool) -> None:
    """With LongRoPE it crosses the switch: both rebuild the cache there."""
    theirs, ours = pair(4, 2, longrope=longrope)
    for seed in range(5):
        prompt = torch.randint(1, 211, (1, 20), generator=torch.Generator().manual_seed(seed))
        wanted = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30, do_sample=False)
        rebuilt: list[int] = []
        got = list(generate(ours, prompt[0].tolist(), max_new_tokens=30, on_rebuild=rebuilt.append))
        eos = theirs.generation_config.eos_token_id
        wanted = wanted[0, 20:].tolist()
        assert got[: len(wanted)] == wanted, (seed, eos)
        assert len(wanted) > 1
        assert rebuilt == ([ORIGINAL + 1] if longrope else [])
