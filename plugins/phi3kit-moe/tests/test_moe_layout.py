"""PhiMoE's config.json and tensor names, both ways, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from phi3kit_moe.layout import PhiMoELayout
from phimoe_twin import MSCALE, config, random_net, tokens, transformers_twin
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from phi3kit import UserError
from phi3kit.cli import main
from phi3kit.model.load import build_net, load_run, whole_section
from phi3kit.testing import contracts

LAYOUT = PhiMoELayout()
VARIANTS = [
    config(),
    config(rope_scaling=None, original_max_position_embeddings=...),
    config(head_dim=16, num_attention_heads=2, num_key_value_heads=1),
    config(attention_bias=False, lm_head_bias=False, tie_word_embeddings=True),
    config(sliding_window=31, router_jitter_noise=0.2, input_jitter_noise=0.01, rms_norm_eps=1e-6),
]


@pytest.mark.parametrize("fields", VARIANTS)
def test_a_net_comes_back_from_its_config(fields):
    net = LAYOUT.net(fields)
    again = LAYOUT.config(net)
    assert again is not None
    assert whole_section(LAYOUT.net(again)) == whole_section(net)
    assert LAYOUT.config(whole_section(net)) == again
    told = {name: value for name, value in fields.items() if again.get(name, ...) != value}
    assert told.keys() <= {"bos_token_id", "eos_token_id", "original_max_position_embeddings", "head_dim"}, told


@pytest.mark.parametrize("fields", VARIANTS)
def test_it_keeps_the_laws_of_layouts(fields):
    """The parts cover the net once, and a checkpoint converts to a run and back, bit for bit."""
    contracts.check_layout(PhiMoELayout, fields, unused=["model.layers.0.self_attn.rotary_emb.inv_freq"])


def test_names_and_shapes_are_the_public_ones():
    """The spec sheet, section 2.8, "checkpoint layout"."""
    net = random_net(config())
    state = net.state_dict()
    found = {part.theirs: list(state[part.ours][part.place].shape) for part in LAYOUT.parts(net)}
    wanted: dict[str, list[int]] = {
        "model.embed_tokens.weight": [96, 64],
        "model.norm.weight": [64],
        "model.norm.bias": [64],
        "lm_head.weight": [96, 64],
        "lm_head.bias": [96],
    }
    for layer in ("model.layers.0", "model.layers.1"):
        for letter, rows in (("q", 64), ("k", 32), ("v", 32), ("o", 64)):
            wanted[f"{layer}.self_attn.{letter}_proj.weight"] = [rows, 64]
            wanted[f"{layer}.self_attn.{letter}_proj.bias"] = [rows]
        wanted[f"{layer}.block_sparse_moe.gate.weight"] = [8, 64]
        for e in range(8):
            for name, shape in (("w1", [96, 64]), ("w2", [64, 96]), ("w3", [96, 64])):
                wanted[f"{layer}.block_sparse_moe.experts.{e}.{name}.weight"] = shape
        for norm in ("input_layernorm", "post_attention_layernorm"):
            wanted[f"{layer}.{norm}.weight"] = wanted[f"{layer}.{norm}.bias"] = [64]
    assert found == wanted


def test_parts_need_no_weights():
    with torch.device("meta"):
        net = build_net(LAYOUT.net(config()))
    assert LAYOUT.parts(net) == LAYOUT.parts(random_net(config()))


def test_what_a_released_config_says_reaches_the_net():
    scaling = {**config()["rope_scaling"], "original_max_position_embeddings": 4096}
    released = config(
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        sliding_window=131072,
        rope_scaling=scaling,
        input_jitter_noise=0.01,
        auto_map={"AutoConfig": "configuration_phimoe.PhiMoEConfig"},
        torch_dtype="bfloat16",
    )
    net = whole_section(LAYOUT.net(released))
    assert net["attention"][0]["init_args"] == {"window": None, "bias": True}
    assert net["norm"] == {"class_path": "LayerNorm", "init_args": {"eps": 1e-5}}
    position = net["position"]["init_args"]
    assert (position["original_context"], position["theta"], position["use"]) == (4096, 10000.0, "auto")
    assert (position["short_mscale"], position["long_mscale"]) == (MSCALE, MSCALE)
    experts = net["feed_forward"][0]["init_args"]
    assert (experts["n_experts"], experts["input_jitter"], experts["balance"]) == (8, 0.01, 0.02)
    assert experts["router"] == {"class_path": "SparseMixer", "init_args": {"jitter": 0.01, "chosen": 2}}
    assert (net["head_bias"], net["tied"]) == (True, False)


@torch.no_grad()
def test_a_checkpoint_of_transformers_converts_and_comes_back(tmp_path):
    """transformers 5 names itself PhimoeForCausalLM and the rotation ``rope_parameters``."""
    net = random_net(config())
    ours, theirs, run, back = (tmp_path / name for name in ("ours", "theirs", "run", "back"))
    ours.mkdir()
    twin = transformers_twin(net, config(), ours)
    twin.save_pretrained(theirs)
    assert json.loads((theirs / "config.json").read_text())["architectures"] == ["PhimoeForCausalLM"]
    assert main(["convert", str(theirs), str(run)]) == 0
    converted = load_run(run)
    wanted = net(tokens(2, 16))
    assert torch.equal(converted(tokens(2, 16)), wanted)
    assert converted(tokens(2, 40)).isfinite().all()
    assert main(["convert", str(run), str(back)]) == 0
    again = AutoModelForCausalLM.from_pretrained(back).eval()
    torch.testing.assert_close(again(tokens(2, 16)).logits, wanted, atol=1e-4, rtol=1e-4)
    assert load_file(back / "model.safetensors").keys() == load_file(ours / "model.safetensors").keys()


@torch.no_grad()
def test_the_config_that_is_written_opens_in_transformers(tmp_path):
    net = random_net(config())
    section = LAYOUT.net(config())
    section["position"]["init_args"].pop("long_mscale")  # then it is computed, and written
    written = LAYOUT.config(section)
    assert written["rope_scaling"]["long_mscale"] == pytest.approx((1 + 2 / 4) ** 0.5)  # 64 of 16: ln 4 / ln 16
    twin = transformers_twin(net, written, tmp_path)
    torch.testing.assert_close(net(tokens(1, 16)), twin(tokens(1, 16)).logits, atol=1e-4, rtol=1e-4)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"attention_bias": ...}, "attention_bias must be true or false, but it lacks it; Phi-3.5-MoE has true"),
    ({"lm_head_bias": "yes"}, "lm_head_bias must be true or false, but it says 'yes'"),
    ({"rope_theta": ...}, "config.json lacks rope_theta; take it from the model's own repository"),
    ({"num_local_experts": ...}, "config.json lacks num_local_experts"),
    ({"num_experts_per_tok": 4}, "num_experts_per_tok is 4; only 2 can be converted: SparseMixer chooses two"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu' can be converted"),
    ({"attention_dropout": 0.1}, "attention_dropout is 0.1; only 0.0 can be converted"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; PhiMoE rotates all"),
    (
        {"rope_scaling": {"type": "linear", "factor": 2}},
        "rope type 'linear' is not known; PhiMoE has default or longrope",
    ),
    ({"rope_scaling": "no mscale"}, "config.json lacks short_mscale; take it from the model's own repository"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_a_config_is_refused_with_the_field(changes, message):
    changes = copy.deepcopy(changes)
    if changes.get("rope_scaling") == "no mscale":
        changes["rope_scaling"] = {k: v for k, v in config()["rope_scaling"].items() if "mscale" not in k}
    with pytest.raises(UserError) as refused:
        LAYOUT.net(config(**changes))
    assert message in str(refused.value)


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(LAYOUT.net(config())), **changes}


def with_router(router: dict[str, Any]) -> dict[str, Any]:
    section = changed()
    section["feed_forward"][0]["init_args"]["router"] = router
    return section


@pytest.mark.parametrize(
    "section",
    [
        changed(feed_forward=[{"class_path": "GatedMLP"}]),
        changed(norm={"class_path": "RMSNorm"}),
        changed(norm=None),
        changed(logit_scale=0.5),
        changed(embedding_dropout=0.1),
        with_router({"class_path": "TopK"}),
        with_router({"class_path": "SparseMixer", "init_args": {"chosen": 3}}),
        changed(position={"class_path": "RoPE", "init_args": {"rotary_fraction": 0.5}}),
    ],
)
def test_another_net_has_no_such_config(section):
    assert LAYOUT.config(section) is None
