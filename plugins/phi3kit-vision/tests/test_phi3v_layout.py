"""The public layout: config.json there and back, every tensor once, and what it refuses."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from phi3kit_vision.encoder import CLIPVision
from phi3kit_vision.layout import Phi3VLayout

from phi3kit import UserError
from phi3kit.model import LongRoPE
from phi3kit.model.load import build_net
from phi3kit.testing import contracts

# Phi-3-vision-128k-instruct (specification, sections 1.7 and Appendix A)
CONFIG: dict[str, Any] = {
    "architectures": ["Phi3VForCausalLM"],
    "model_type": "phi3_v",
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "embd_layer": {
        "embedding_cls": "image",
        "hd_transform_order": "sub_glb",
        "projection_cls": "mlp",
        "use_hd_transform": True,
        "with_learnable_separator": True,
    },
    "img_processor": {
        "image_dim_out": 1024,
        "model_name": "openai/clip-vit-large-patch14-336",
        "name": "clip_vision_model",
        "num_img_tokens": 144,
    },
    "embd_pdrop": 0.0,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "type": "su",
        "long_factor": [
            1.03, 1.05, 1.05, 1.08, 1.23, 1.23, 1.3, 1.45, 1.6, 1.65, 1.9, 2.86, 3.69, 5.42, 5.49, 5.49, 9.09, 11.58,
            15.66, 15.77, 15.79, 18.36, 21.99, 23.08, 30.01, 32.35, 32.59, 35.56, 39.95, 53.84, 56.2, 57.95, 59.29,
            59.77, 59.92, 61.19, 61.96, 62.5, 63.37, 63.48, 63.48, 63.66, 63.85, 64.08, 64.76, 64.8, 64.81, 64.81,
        ],
        "short_factor": [
            1.05, 1.05, 1.05, 1.1, 1.1, 1.1, 1.25, 1.25, 1.4, 1.45, 1.55, 1.85, 1.9, *[2.0] * 19, 2.1, 2.1, 2.2, 2.35,
            2.35, 2.35, 2.35, 2.4, 2.4, 2.65, 2.7, 2.9, 2.95, 3.05, 3.05, 3.05,
        ],
    },
    "rope_theta": 10000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 32064,
}  # fmt: skip
SMALL = {
    "dims": {
        "vocab_size": 64, "hidden_size": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "intermediate_size": 48,
        "context": 256,
    },
    "attention": [{"class_path": "GroupedQueryAttention", "init_args": {"window": None}}],
    "feed_forward": [{"class_path": "GatedMLP"}],
    "position": {
        "class_path": "LongRoPE",
        "init_args": {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 3.0, 4.0], "original_context": 64,
                      "theta": 10000.0},
    },
    "norm": {"class_path": "RMSNorm", "init_args": {"eps": 1e-5}},
    "tied": False,
    "embedding_dropout": 0.0,
    "init_std": 0.02,
    "vision": {
        "class_path": "CLIPVision",
        "init_args": {"hidden": 16, "layers": 3, "heads": 2, "intermediate": 24, "image": 28, "patch": 7,
                      "feature_layer": -1},
    },
}  # fmt: skip


def changed(**sections: Any) -> dict[str, Any]:
    """The public config with some fields replaced; those of a dict field one by one."""
    config = copy.deepcopy(CONFIG)
    for name, value in sections.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    return config


def test_the_public_config_is_the_public_net():
    section = Phi3VLayout().net(CONFIG)
    assert section["vision"] == {"class_path": "CLIPVision", "init_args": {}}
    assert section["attention"] == [{"class_path": "GroupedQueryAttention", "init_args": {"window": None}}]
    with torch.device("meta"):
        net = build_net(section)
    assert net.parameter_count() == 4_146_621_440  # specification, section 1.13
    assert isinstance(net.vision_embed_tokens, CLIPVision)
    assert isinstance(net.position, LongRoPE)
    assert net.position.tables["long"].scale == pytest.approx(1.1902380714238083)
    assert net.position.tables["long"].frequencies_F[[0, -1]].tolist() == pytest.approx(
        [1 / 1.03, 10000 ** (-94 / 96) / 64.81], rel=1e-6
    )


@pytest.mark.parametrize("section", [Phi3VLayout().net(CONFIG), SMALL], ids=["public", "small"])
def test_a_net_survives_its_config(section):
    config = Phi3VLayout().config(section)
    assert Phi3VLayout().net(json.loads(json.dumps(config))) == section


def test_the_config_written_is_the_public_one():
    written = Phi3VLayout().config(Phi3VLayout().net(CONFIG))
    assert written is not None
    added_by_layout = {"attention_bias", "use_cache"}
    said_elsewhere = {"bos_token_id", "eos_token_id", "torch_dtype"}  # by the tokenizer and the weights
    assert written.keys() - CONFIG.keys() <= added_by_layout
    assert CONFIG.keys() - written.keys() <= said_elsewhere
    same = [name for name in CONFIG if name in written and name != "img_processor"]
    assert {name: written[name] for name in same} == {name: CONFIG[name] for name in same}
    assert written["img_processor"] == {**CONFIG["img_processor"], "type_feature": "patch"}


def test_it_keeps_the_laws():
    """There and back through the converter included, bit for bit."""
    config = Phi3VLayout().config(SMALL)
    tower = "model.vision_embed_tokens.img_processor.vision_model"
    contracts.check_layout(
        Phi3VLayout, config,
        [f"{tower}.embeddings.position_ids", "model.layers.0.self_attn.rotary_emb.inv_freq"],
    )  # fmt: skip


def test_every_number_of_the_net_once_and_the_embedding_twice():
    net = build_net(SMALL)
    layout = Phi3VLayout()
    parts = layout.parts(net)
    assert sorted(part.ours for part in parts) == sorted(net.state_dict())
    assert all(part.place == () for part in parts)
    names = {part.theirs for part in parts}
    assert len(names) == len(parts)
    assert {"lm_head.weight", "model.embed_tokens.weight", "model.layers.1.self_attn.qkv_proj.weight"} <= names
    vision = "model.vision_embed_tokens."
    assert {
        f"{vision}glb_GN", f"{vision}sub_GN", f"{vision}img_projection.0.weight", f"{vision}img_projection.2.bias",
        f"{vision}img_processor.vision_model.embeddings.class_embedding",
        f"{vision}img_processor.vision_model.pre_layrnorm.weight",
        f"{vision}img_processor.vision_model.encoder.layers.2.self_attn.out_proj.bias",
        f"{vision}img_processor.vision_model.post_layernorm.bias",
    } <= names  # fmt: skip
    assert layout.copies(net) == {f"{vision}wte.weight": "model.embed_tokens.weight"}
    assert layout.unused(f"{vision}img_processor.vision_model.embeddings.position_ids")
    assert not any(layout.unused(name) for name in names)


@pytest.mark.parametrize(("config", "message"), [
    (changed(embd_layer={"hd_transform_order": "glb_sub"}), "hd_transform_order is 'glb_sub'; only 'sub_glb' can be"),
    (changed(embd_layer={"projection_cls": "linear"}), "projection_cls is 'linear'; only 'mlp' can be converted"),
    (changed(embd_layer={"use_hd_transform": False}), "use_hd_transform is False; only True can be converted"),
    (changed(img_processor={"name": "siglip"}), "name is 'siglip'; only 'clip_vision_model' can be converted"),
    (changed(img_processor={"type_feature": "cls_patch"}), "type_feature is 'cls_patch'; only 'patch' can be"),
    (changed(img_processor={"model_name": "openai/clip-vit-base-patch32"}), "the sizes of other CLIPs are not known"),
    (changed(img_processor={"image_dim_out": 768}), "image_dim_out is 768; only 1024 can be converted"),
    (changed(img_processor={"num_img_tokens": 256}), "num_img_tokens is 256; only 144 can be converted"),
    (changed(embd_layer=None), "embd_layer is None; a vision model's config.json has a section of that name"),
    (changed(tie_word_embeddings=True), "no Phi3VForCausalLM has a tied head"),
    (changed(hidden_act="gelu"), "hidden_act is 'gelu'; only 'silu'"),
])  # fmt: skip
def test_other_models_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        Phi3VLayout().net(config)


@pytest.mark.parametrize(
    "changes", [{"vision": None}, {"tied": True}, {"attention": [{"class_path": "BlocksparseAttention"}]}], ids=str
)
def test_nets_of_other_layouts_are_left_to_them(changes):
    assert Phi3VLayout().config({**SMALL, **changes}) is None
