"""The factor lists of the recipes: as published, through our component, and against transformers' own computation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_folders import RECIPES, content
from transformers import Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from phi3kit import Dims
from phi3kit.model import LongRoPE

JUNE, APRIL, MINI35 = "phi3-mini/net-128k", "phi3-mini/net-128k-april", "phi35-mini/net"
MINI4, REASONING = "phi4-mini/net", "phi4-mini-reasoning/net"
SCALE = 1.1902380714238083  # sqrt(1 + ln(131072/4096) / ln 4096)


def position(net: str) -> tuple[LongRoPE, Dims, dict[str, Any]]:
    """A recipe's position, its dims and its options."""
    section = content(RECIPES / f"{net}.yaml")["net"]
    dims, options = Dims(**section["dims"]), section["position"]["init_args"]
    return LongRoPE(dims, **options), dims, options


@pytest.mark.parametrize(
    ("net", "table", "first", "last"),
    [
        (JUNE, "long", [0.93457939, 0.73696802, 0.59242790], 1.870796e-6),
        (JUNE, "short", [0.90909091, 0.75036744, 0.61935643], 3.972222e-5),
    ],
)
def test_published_inverse_frequencies(net: str, table: str, first: list[float], last: float) -> None:
    found = position(net)[0].tables[table].frequencies_F
    torch.testing.assert_close(found[:3], torch.tensor(first), atol=0, rtol=2e-7)
    assert len(found) == 48
    assert float(found[47]) == pytest.approx(last, rel=1e-6)


@pytest.mark.parametrize("net", [JUNE, APRIL, MINI35, MINI4, REASONING])
@pytest.mark.parametrize("length", [4095, 4096, 4097])
def test_frequencies_and_scale_are_transformers_own(net: str, length: int) -> None:
    """Under, at and over the switch; the short list is scaled too."""
    ours, dims, options = position(net)
    config = Phi3Config(
        vocab_size=dims.vocab_size, hidden_size=dims.hidden_size, num_attention_heads=dims.n_heads,
        num_key_value_heads=dims.n_kv_heads, max_position_embeddings=dims.context, pad_token_id=0,
        original_max_position_embeddings=4096, partial_rotary_factor=options.get("rotary_fraction", 1.0),
        rope_scaling={"type": "longrope", **{k: options[k] for k in ("short_factor", "long_factor")}},
    )  # fmt: skip
    theirs_F, scale = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"), seq_len=length)
    assert scale == pytest.approx(SCALE, abs=1e-12)
    positions_BT = torch.tensor([[0, 1, length // 2, length - 1]])
    angles_TF = positions_BT[0, :, None].float() * theirs_F
    rotation = ours(positions_BT)
    expected = torch.cat((angles_TF, angles_TF), dim=-1)
    assert rotation.cos_BTR.shape == (1, 4, 96)
    torch.testing.assert_close(rotation.cos_BTR[0], expected.cos() * scale, atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation.sin_BTR[0], expected.sin() * scale, atol=1e-6, rtol=0)
    same = options["short_factor"] == options["long_factor"]
    assert (
        torch.equal(ours(torch.tensor([[3, 4095]])).cos_BTR[:, 0], ours(torch.tensor([[3, 4096]])).cos_BTR[:, 0])
        == same
    )


def test_the_scales_of_moe_are_the_released_ones() -> None:
    """What an original context of 2048 would give, though the lists switch at 4096; both lists have it."""
    options = content(RECIPES / "phi35-moe" / "net.yaml")["net"]["position"]["init_args"]
    assert (options["short_mscale"], options["long_mscale"]) == (1.243163121016122, 1.243163121016122)
    dims = Dims(vocab_size=8, hidden_size=128, n_layers=1, n_heads=1, context=131072)
    made_up = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64}
    rope = LongRoPE(dims, **made_up, **options)
    for last in (4095, 4096):
        assert float(rope(torch.tensor([[0, last]])).cos_BTR[0, 0, 0]) == pytest.approx(1.243163121016122, rel=1e-6)


PUBLISHED = {
    JUNE: ("June/July 2024 weights", "June/July 2024 weights"),
    APRIL: ("April 2024", "same"),
    MINI35: ("phi-3.5-mini", "phi-3.5-mini"),
    REASONING: ("phi-4-mini-reasoning", "phi-4-mini-reasoning"),
}


@pytest.mark.parametrize("net", PUBLISHED)
def test_the_lists_are_copied_without_a_slip(net: str, shared_data: Path) -> None:
    sheet = (shared_data.parent / "spec" / "phi3-family.md").read_text()
    sheet = sheet[sheet.index("# Appendix A") :]
    lists = re.findall(r"^\*\*(.*?)\*\*[^\n]*\n\n```json\n(.*?)\n```", sheet, re.MULTILINE | re.DOTALL)
    assert len(lists) == 8
    options = position(net)[2]
    for kind, title in zip(("long_factor", "short_factor"), PUBLISHED[net], strict=True):
        (numbers,) = (json.loads(n) for t, n in lists if title in t and kind in t)
        assert options[kind] == numbers, (net, kind)


def test_phi_4_mini_instruct_shares_the_long_list_and_its_short_one_is_ones() -> None:
    instruct, reasoning = position(MINI4)[2], position(REASONING)[2]
    assert instruct["short_factor"] == [1.0] * 48
    assert instruct["long_factor"] == reasoning["long_factor"] == reasoning["short_factor"]
