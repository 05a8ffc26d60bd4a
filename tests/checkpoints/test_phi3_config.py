"""config.json of every `Phi3ForCausalLM` to a recipe's net, and what is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from public_checkpoints import BASE, EXTENDED, LONG, MODELS, SHORT

from phi3kit import UserError
from phi3kit.model import Phi3Layout
from phi3kit.model.load import build_net, whole_section

# sizes of the public models (config.json of each repository) and their parameters
PUBLIC = {
    "phi-3-mini-4k": ({"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
                       "num_attention_heads": 32, "num_key_value_heads": 32, "sliding_window": 2047}, 3_821_079_552),
    "phi-3-medium-4k": ({"hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40,
                         "num_attention_heads": 40, "num_key_value_heads": 10, "sliding_window": 2047}, 13_960_238_080),
    "phi-4-mini": ({"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 24,
                    "num_key_value_heads": 8, "sliding_window": 262144, "vocab_size": 200064,
                    "tie_word_embeddings": True, "partial_rotary_factor": 0.75}, 3_836_021_760),
}  # fmt: skip


def net(**changes):
    """The net of the base config with other fields; a field set to `...` is left out."""
    config = {name: value for name, value in {**copy.deepcopy(BASE), **changes}.items() if value is not ...}
    return Phi3Layout().net(config)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_sizes_have_the_published_parameters(name):
    sizes, parameters = PUBLIC[name]
    common = {"vocab_size": 32064, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    built = build_net(net(**{**common, **sizes}), "meta")
    assert built.parameter_count() == parameters
    assert built.dims.head_width * built.dims.n_heads == sizes["hidden_size"]


@pytest.mark.parametrize(
    ("said", "window"), [(31, 32), (2047, None), (128, None), (127, 128), (262144, None), (None, None)]
)
def test_a_sliding_window_counts_the_token_itself(said, window):
    """Phi-3 was trained with FlashAttention's (2047, 0), which is 2048 tokens; a window beyond the context is none."""
    section = net(sliding_window=said)
    assert section["attention"] == [{"class_path": "GroupedQueryAttention", "init_args": {"window": window}}]
    assert Phi3Layout().config(section)["sliding_window"] == (None if window is None else said)


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
def test_longrope_under_its_three_names(kind):
    section = net(**EXTENDED | {"rope_scaling": {"type": kind, "short_factor": SHORT, "long_factor": LONG}})
    assert section["position"] == {
        "class_path": "LongRoPE",
        "init_args": {"short_factor": SHORT, "long_factor": LONG, "original_context": 32, "theta": 10000.0},
    }


def test_rope_parameters_as_transformers_5_writes_them():
    nested = {
        "rope_type": "longrope", "type": "longrope", "short_factor": SHORT[:6], "long_factor": LONG[:6],
        "rope_theta": 20000.0, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 32,
    }  # fmt: skip
    new = net(rope_parameters=nested, rope_scaling=..., rope_theta=..., original_max_position_embeddings=...)
    old_scaling = {"type": "longrope", "short_factor": SHORT[:6], "long_factor": LONG[:6]}
    old = {"rope_scaling": old_scaling, "rope_theta": 20000.0, "partial_rotary_factor": 0.75}
    assert new == net(**old, original_max_position_embeddings=32)
    plain = {"rope_type": "default", "rope_theta": 250000.0, "partial_rotary_factor": 1.0}
    assert net(rope_parameters=plain, rope_scaling=..., rope_theta=...) == net(rope_theta=250000.0)


@pytest.mark.parametrize(
    ("override", "scale"),
    [
        ({"attention_factor": 1.5}, 1.5),
        ({"attention_factor": 1.0}, 1.0),
        ({"factor": 16.0}, math.sqrt(1 + math.log(16) / math.log(32))),
        ({"factor": 0.5}, 1.0),
        ({"attention_factor": 1.5, "factor": 16.0}, 1.5),
        ({"factor": 4.0}, None),  # what the two contexts say anyway
        ({}, None),
    ],
)
def test_a_magnitude_that_the_config_overrides(override, scale):
    scaling = {**EXTENDED["rope_scaling"], **override}
    section = net(**EXTENDED | {"rope_scaling": scaling})
    options = section["position"]["init_args"]
    assert (options.get("short_mscale"), options.get("long_mscale")) == (scale, scale)
    assert Phi3Layout().net(Phi3Layout().config(section)) == section


def test_a_missing_original_context_is_the_4096_of_transformers():
    section = net(**EXTENDED | {"max_position_embeddings": 131072, "original_max_position_embeddings": ...})
    assert section["position"]["init_args"]["original_context"] == 4096


@pytest.mark.parametrize("name", MODELS)
def test_net_of_config_of_net(name):
    layout = Phi3Layout()
    section = layout.net(MODELS[name])
    assert layout.net(layout.config(section)) == section
    assert layout.net(layout.config(whole_section(section))) == section


def test_a_head_width_of_its_own():
    section = net(head_dim=32)
    assert section["dims"]["head_dim"] == 32
    assert Phi3Layout().config(section)["head_dim"] == 32
    assert "head_dim" not in net(head_dim=16)["dims"]


@pytest.mark.parametrize(("use", "used"), [("long", LONG), ("short", SHORT)])
def test_a_net_that_pins_one_list_is_written_with_that_list_twice(use, used):
    """pocket-phi trains with the long list alone; transformers then turns with it at every length."""
    section = net(**EXTENDED)
    section["position"]["init_args"]["use"] = use
    scaling = Phi3Layout().config(section)["rope_scaling"]
    assert scaling["short_factor"] == scaling["long_factor"] == used


@pytest.mark.parametrize(
    "other",
    [
        {"vision": {"class_path": "Eyes"}}, {"head_bias": True}, {"embedding_scale": 10.0}, {"logit_scale": 0.125},
        {"unused_ids": [3]}, {"norm": {"class_path": "LayerNorm"}}, {"feed_forward": [{"class_path": "Experts"}]},
        {"attention": [{"class_path": "GroupedQueryAttention", "init_args": {"bias": True}}]},
        {"attention": [{"class_path": "GroupedQueryAttention", "init_args": {"window": 8}},
                       {"class_path": "GroupedQueryAttention", "init_args": {"window": None}}]},
        {"position": {"class_path": "Alibi"}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_other_nets_are_none_of_this_layout(other):
    assert Phi3Layout().config(net()) is not None
    assert Phi3Layout().config({**net(), **other}) is None


def test_two_magnitudes_are_none_of_this_layout():
    section = net(**EXTENDED)
    section["position"]["init_args"] |= {"short_mscale": 1.0, "long_mscale": 1.2}
    assert Phi3Layout().config(section) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, r"hidden_act is 'gelu'; only 'silu' can be converted"),
        ({"attention_bias": True}, r"attention_bias is True; only False can be converted: no Phi3ForCausalLM has"),
        ({"mlp_bias": True}, r"mlp_bias is True; only False"),
        ({"lm_head_bias": True}, r"lm_head_bias is True; only False"),
        ({"resid_pdrop": 0.1}, r"resid_pdrop is 0\.1; only 0\.0 can be converted: the blocks have no dropout"),
        ({"attention_dropout": 0.1}, r"attention_dropout is 0\.1; only 0\.0"),
        ({"hidden_size": ...}, r"config\.json lacks hidden_size"),
        ({"hidden_size": "64"}, r"hidden_size is '64'; a whole number above 0 is expected"),
        ({"vocab_size": 0}, r"vocab_size is 0; a whole number above 0"),
        ({"rope_theta": "1e4"}, r"rope_theta is '1e4'; a number is expected"),
        ({"num_key_value_heads": 3}, r"n_heads 4 is not a multiple of n_kv_heads 3"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, r"rope type 'dynamic' is not known"),
        ({"rope_scaling": {"type": "longrope", "short_factor": SHORT}}, r"config\.json lacks long_factor"),
        ({"rope_scaling": {"type": "su", "short_factor": SHORT, "long_factor": "x"}}, r"long_factor is 'x'; a list of"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(UserError, match=message):
        net(**change)


def test_a_dropout_of_embeddings_is_kept():
    section = net(embd_pdrop=0.1)
    assert section["embedding_dropout"] == 0.1
    assert Phi3Layout().config(section)["embd_pdrop"] == 0.1
    built = build_net(section).train()
    tokens = torch.arange(100)[None]
    assert not torch.equal(built.embed(tokens), built.embed(tokens))
