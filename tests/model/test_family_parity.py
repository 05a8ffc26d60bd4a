"""Each core model's own components, from its recipe at shrunk sizes, against transformers' Phi3ForCausalLM (fp32)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recipe_folders import RECIPES, content
from transformers import Phi3Config, Phi3ForCausalLM

from phi3kit import Decoder
from phi3kit.model import weights
from phi3kit.model.engine import NetEngine
from phi3kit.model.load import build_net

TOLERANCE = 1e-5
LAYERS, VOCABULARY, INNER = 2, 97, 64
HEADS = {
    "phi3-mini": (2, 2),
    "phi35-mini": (2, 2),
    "phi3-medium": (8, 2),
    "phi4-mini": (6, 2),
    "phi4-mini-reasoning": (6, 2),
}
LONG = ["phi3-mini/net-128k", "phi3-mini/net-128k-april", "phi35-mini/net", "phi4-mini/net", "phi4-mini-reasoning/net"]


def shrunk(net: str) -> dict[str, Any]:
    """A recipe's net with few layers, heads (of the same width, as many to a key) and ids."""
    section = content(RECIPES / f"{net}.yaml")["net"]
    dims = section["dims"]
    heads, kv_heads = HEADS[net.split("/")[0]]
    ratio = dims["n_heads"] // dims.get("n_kv_heads", dims["n_heads"])
    assert heads // kv_heads == ratio, "the shrunk net shares keys as the real one does"
    head_dim = 128 if net.startswith("phi4") else dims["hidden_size"] // dims["n_heads"]
    sizes = {"vocab_size": VOCABULARY, "hidden_size": heads * head_dim, "n_layers": LAYERS, "intermediate_size": INNER}
    section["dims"] = {**dims, **sizes, "n_heads": heads, "n_kv_heads": kv_heads}
    return section | {"init_std": (heads * head_dim) ** -0.5}


def pair(net: str, sliding_window: int | None = None) -> tuple[Phi3ForCausalLM, Decoder]:
    """The same random weights in both. `sliding_window` is theirs; ours is the recipe's."""
    section = shrunk(net)
    dims, position = section["dims"], section["position"].get("init_args", {})
    torch.manual_seed(0)
    ours = build_net(section).eval()
    scaling = None
    if "long_factor" in position:
        scaling = {"type": "longrope", **{name: position[name] for name in ("short_factor", "long_factor")}}
    config = Phi3Config(
        vocab_size=VOCABULARY, hidden_size=dims["hidden_size"], intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=dims["n_heads"], num_key_value_heads=dims["n_kv_heads"],
        rms_norm_eps=1e-5, max_position_embeddings=dims["context"], original_max_position_embeddings=4096,
        rope_scaling=scaling, partial_rotary_factor=position.get("rotary_fraction", 1.0),
        sliding_window=sliding_window, tie_word_embeddings=section.get("tied", False), pad_token_id=0,
        attn_implementation="eager",
    )  # fmt: skip
    theirs = Phi3ForCausalLM(config).eval()
    state = {weights.to_hugging_face(name): tensor for name, tensor in ours.state_dict().items()}
    theirs.load_state_dict(state)
    assert theirs.num_parameters() == ours.parameter_count()
    return theirs, ours


def differences(theirs: Phi3ForCausalLM, ours: Decoder, length: int, first: int = 0) -> torch.Tensor:
    """Largest difference of logits at every position, [T]; the tokens stand at `first` and after it."""
    tokens_BT = torch.randint(VOCABULARY, (1, length), generator=torch.Generator().manual_seed(length))
    positions_BT = torch.arange(first, first + length)[None]
    with torch.no_grad():
        wanted_BTV = theirs(tokens_BT, position_ids=positions_BT, use_cache=False).logits
        found_BTV = ours(tokens_BT, positions_BT)
    assert float(wanted_BTV.std()) > 0.05, "logits that are all alike prove nothing"
    return (wanted_BTV - found_BTV).abs().amax((0, 2))


@pytest.mark.parametrize("net", LONG)
@pytest.mark.parametrize("end", [9, 4095, 4096, 4097, 131072])
def test_logits_with_the_real_lists_on_both_sides_of_the_switch(net: str, end: int) -> None:
    """The last of nine tokens stands at `end` - 1: the list is chosen by it. Covers phi-4-mini's partial rotation, tied
    head and three query heads to a key."""
    assert float(differences(*pair(net), length=9, first=end - 9).max()) <= TOLERANCE


def test_a_list_of_another_release_gives_other_logits() -> None:
    theirs, _ = pair("phi3-mini/net-128k")
    _, april = pair("phi3-mini/net-128k-april")
    assert float(differences(theirs, april, length=9, first=5000).max()) > 1e-3


@pytest.mark.parametrize("net", ["phi3-mini/net", "phi3-medium/net"])
def test_the_window_is_2048_tokens_though_config_json_says_2047(net: str) -> None:
    """FlashAttention, which trained the models, counts 2047 tokens beside the token itself. transformers, given 2047,
    sees one token fewer (key > query - 2047), from position 2047 on; given 2048 it sees what training saw."""
    length = 2060
    assert float(differences(*pair(net, sliding_window=2048), length).max()) <= TOLERANCE
    short_T = differences(*pair(net, sliding_window=2047), length)
    assert float(short_T[:2047].max()) <= TOLERANCE
    assert float(short_T[2047:].min()) > TOLERANCE


@pytest.mark.parametrize("window", [None, 20])
def test_generation_across_the_switch_equals_a_full_recompute(window: int | None) -> None:
    """With a sliding window too: the rebuilt cache holds keys of the long list only."""
    section = shrunk("phi3-mini/net-128k")
    section["dims"]["context"] = 128
    section["position"]["init_args"]["original_context"] = 32
    section["attention"] = [{"class_path": "GroupedQueryAttention", "init_args": {"window": window}}]
    torch.manual_seed(0)
    net = build_net(section).eval()
    rebuilt: list[int] = []
    engine = NetEngine(net, rebuilt.append)
    ids = torch.randint(VOCABULARY, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    for end in range(25, 41):
        logits_V = engine.ingest(ids[:25] if end == 25 else ids[end - 1 : end])
        with torch.no_grad():
            whole_V = net(torch.tensor([ids[:end]]))[0, -1]
        assert float((logits_V - whole_V).abs().max()) <= TOLERANCE, end
    assert rebuilt == [33]
