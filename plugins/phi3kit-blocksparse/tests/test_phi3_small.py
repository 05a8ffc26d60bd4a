"""A shrunk Phi-3-small against a slow one written from the specification; golden vectors; the real one's size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from phi3kit_blocksparse.feed_forward import gegelu
from phi3kit_blocksparse.layout import Phi3SmallLayout
from slow_phi3small import DUMMIES, config, logits

from phi3kit import UserError
from phi3kit.model import GrowingCache
from phi3kit.model.engine import NetEngine
from phi3kit.model.load import build_net, whole_section

LONG = {
    "type": "su",
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.5, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 32,
}
LONG_CONFIG = {"rope_scaling": LONG, "original_max_position_embeddings": 32}
SMALL = config(  # spec sheet, section 1.5
    vocab_size=100352,
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    ff_intermediate_size=14336,
    max_position_embeddings=8192,
    blocksparse_block_size=64,
    blocksparse_num_local_blocks=16,
)


def net_of(fields: dict, *, std: float = 0.2):
    """A net whose every part matters: large weights, biases and norms that are no zeros and ones."""
    torch.manual_seed(0)
    net = build_net({**Phi3SmallLayout().net(fields), "init_std": std})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_((0.0 if name.endswith("bias") else 1.0) + 0.2 * torch.randn_like(parameter))
    return net.eval()


def public_state(net) -> dict[str, torch.Tensor]:
    own = net.state_dict()
    return {part.theirs: own[part.ours][part.place] for part in Phi3SmallLayout().parts(net)}


def ids(length: int, vocab: int = 512) -> list[int]:
    return torch.randint(vocab, (length,), generator=torch.Generator().manual_seed(length)).tolist()


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        pytest.param({}, 12, id="within the window"),
        pytest.param({}, 70, id="8K"),
        pytest.param({"gegelu_limit": 0.5, "mup_attn_multiplier": 2.0}, 45, id="clamped"),
        pytest.param({"blocksparse_homo_head_pattern": True, "dense_attention_every_n_layers": 3}, 45, id="alike"),
        pytest.param(LONG_CONFIG, 32, id="128K, short list"),
        pytest.param(LONG_CONFIG, 33, id="128K, long list"),
        pytest.param({**LONG_CONFIG, "rope_scaling": {**LONG, "short_mscale": 1.3}}, 20, id="short mscale"),
        pytest.param({**LONG_CONFIG, "rope_scaling": {**LONG, "long_mscale": 1.3}}, 40, id="long mscale"),
    ],
)
def test_equals_the_slow_model(changes, length):
    fields = config(**changes)
    net, tokens = net_of(fields), ids(length)
    with torch.no_grad():
        found = net(torch.tensor([tokens]))[0].double()
    wanted = logits(public_state(net), fields, tokens)
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_equals_the_slow_model_with_the_real_vocabulary():
    fields = config(vocab_size=100352, hidden_size=16, num_hidden_layers=2)
    net, tokens = net_of(fields), ids(30, 100352)
    with torch.no_grad():
        found = net(torch.tensor([tokens]))[0].double()
    torch.testing.assert_close(found, logits(public_state(net), fields, tokens), atol=1e-4, rtol=0)
    hidden = found == torch.finfo(torch.float32).min
    assert hidden.all(0).nonzero()[:, 0].tolist() == sorted(DUMMIES)
    assert hidden.any(0).sum() == len(DUMMIES) == 91


def test_even_layers_are_blocksparse():
    """A token that only the dense layers see changes nothing where these are taken out."""
    net = net_of(config(dense_attention_every_n_layers=None, num_hidden_layers=1))
    first, other = ids(60), ids(60)
    other[0] = (first[0] + 1) % 512
    with torch.no_grad():
        changed = (net(torch.tensor([first])) - net(torch.tensor([other])))[0].abs().amax(-1)
    seen = net.layers[0].self_attn.pattern(60)[:, :, 0].any(0)
    assert torch.equal(changed > 1e-6, seen)
    assert seen[59]  # the head whose columns are 0, 8, 16, ... sees the first block from everywhere


@pytest.mark.parametrize("changes", [{}, LONG_CONFIG])
def test_generation_with_a_cache_equals_full_recompute(changes):
    net = net_of(config(**changes))
    tokens, rebuilt = ids(60), []
    engine = NetEngine(net, rebuilt.append)
    found = [engine.ingest(tokens[:25]), *(engine.ingest([token]) for token in tokens[25:])]
    with torch.no_grad():
        wanted = [net(torch.tensor([tokens[:length]]))[0, -1] for length in range(25, 61)]
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), atol=1e-4, rtol=0)
    assert rebuilt == ([33] if changes else [])


def test_a_second_turn_in_a_cache():
    """A prompt, some steps, then a long chunk: logits equal those of the whole."""
    net, tokens = net_of(config()), torch.tensor([ids(100)])
    cache, parts = GrowingCache(4), []
    with torch.no_grad():
        for chunk in tokens.split([41, 1, 1, 30, 1, 26], dim=1):
            parts.append(net(chunk, cache=cache))
        torch.testing.assert_close(torch.cat(parts, dim=1), net(tokens), atol=1e-4, rtol=0)


def test_gegelu_golden_vector():
    """Spec sheet, section 7: pairs (1, 0.5), (-2, 3), (30 -> 20, -40 -> -20), (-30, 40 -> 20)."""
    rows = torch.tensor([1, 0.5, -2, 3, 30, -40, -30, 40], dtype=torch.float64)
    out = gegelu(rows, 20.0)
    torch.testing.assert_close(out[:3], torch.tensor([1.2686937, -0.2573655, -380.0]).double(), atol=1e-6, rtol=1e-6)
    assert out[3].item() == pytest.approx(-4.2e-20, rel=0.01)


def test_gegelu_lets_infinity_pass():
    out = gegelu(torch.tensor([float("inf"), 1.0, 2.0, float("inf"), 2.0, float("-inf")]), 20.0)
    assert out.tolist() == [float("inf"), float("inf"), float("-inf")]


def test_parameters_of_the_real_one():
    with torch.device("meta"):
        net = build_net(Phi3SmallLayout().net(SMALL))
    assert net.parameter_count() == 7_392_272_384  # spec sheet, section 1.13
    names = {part.theirs: tuple(net.state_dict()[part.ours].shape) for part in Phi3SmallLayout().parts(net)}
    assert names["model.layers.31.self_attn.query_key_value.weight"] == (6144, 4096)
    assert names["model.layers.0.mlp.up_proj.bias"] == (28672,)
    assert names["model.final_layernorm.bias"] == (4096,)
    assert "lm_head.weight" not in names
    assert [type(block.self_attn).__name__ for block in net.layers[:2]] == [
        "BlocksparseAttention",
        "GroupedDenseAttention",
    ]


def test_the_recipe_is_the_released_model():
    recipe = Path(__file__).parents[3] / "recipes" / "phi3-small" / "net.yaml"
    if not recipe.is_file():
        pytest.skip("needs the recipes beside the plugin, which are absent here")
    net = whole_section(yaml.safe_load(recipe.read_text())["net"])
    assert net == whole_section(Phi3SmallLayout().net(SMALL))
    assert Phi3SmallLayout().config(net)["mup_width_multiplier"] == 8.0


def test_initial_weights():
    torch.manual_seed(0)
    net = build_net(Phi3SmallLayout().net(config(hidden_size=256, num_hidden_layers=8)))
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    assert weights["layers.0.mlp.down_proj.weight"].std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert weights["layers.0.self_attn.dense.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert not weights["layers.0.mlp.down_proj.bias"].any()


def test_the_inner_width_may_follow_from_a_multiplier():
    fields = config(ff_intermediate_size=None, ff_dim_multiplier=8, hidden_size=64)
    assert Phi3SmallLayout().net(fields)["dims"]["intermediate_size"] == 512  # 8 * 21 * 2 = 336, up to 256s
    padded = {**fields, "gegelu_pad_to_256": False}
    assert Phi3SmallLayout().net(padded)["dims"]["intermediate_size"] == 336


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_position_scale": 2.0}, "rope_position_scale is 2.0; only 1.0 can be converted"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu'; only 'gegelu' can be converted"),
        ({"attention_dropout_prob": 0.1}, "attention_dropout_prob is 0.1; only 0.0 can be converted"),
        ({"ff_dim_multiplier": 8}, "both ff_dim_multiplier and ff_intermediate_size; exactly one may be set"),
        ({"rope_scaling": {"type": "linear"}}, "rope type 'linear' is not known; su and longrope can be converted"),
        ({"rope_scaling": {"type": "su", "original_max_position_embeddings": 8}}, "lacks short_factor; take it from"),
        ({"rope_scaling": {"type": "su"}}, "lacks original_max_position_embeddings; take it from"),
        ({"ff_intermediate_size": None}, "lacks ff_intermediate_size; take it from"),
    ],
)
def test_what_the_net_cannot_do_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Phi3SmallLayout().net(config(**changes))
