"""The whole net against transformers' PhimoeForCausalLM, opened from the same checkpoint folder.

Two things are wrong in transformers 5.23 and pinned here: past the original context it scales by the long list's
magnitude but keeps the short list's frequencies (`rope_init_fn` is called without a length), and it applies input
jitter twice (in the block and in the router).
"""

from __future__ import annotations

import pytest
import torch
from phi3kit_moe.balance import balance_of
from phi3kit_moe.layout import PhiMoELayout
from phi3kit_moe.mixture import MixtureOfExperts
from phimoe_twin import MSCALE, config, random_net, tokens, transformers_twin
from test_sparse_mixer import as_transformers_draws

from phi3kit.families import Routing
from phi3kit.model import GrowingCache
from phi3kit.model.load import build_net

PLAIN = {"rope_scaling": None, "original_max_position_embeddings": ...}
OTHER_SCALES = {"rope_scaling": {**config()["rope_scaling"], "short_mscale": 1.0, "long_mscale": 1.5}}
NO_BIAS = {"attention_bias": False, "lm_head_bias": False}
WIDE_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
TINY = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 28}  # as Phi-tiny-MoE


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference over largest value."""
    difference, size = (got.detach() - wanted.detach()).float().abs().max(), wanted.detach().float().abs().max()
    return float(difference / (size + 1e-20))


@pytest.mark.parametrize("changes", [{}, PLAIN, OTHER_SCALES, NO_BIAS, WIDE_HEADS, TINY, {"rms_norm_eps": 0.1}])
@torch.no_grad()
def test_logits_equal_transformers_below_the_long_switch(tmp_path, changes):
    fields = config(**changes)
    net = random_net(fields)
    twin = transformers_twin(net, fields, tmp_path)
    tokens_BT = tokens(2, 16)
    assert relative(net(tokens_BT), twin(tokens_BT).logits) < 1e-5


@torch.no_grad()
def test_router_outputs_equal_transformers(tmp_path):
    fields = config()
    net = random_net(fields)
    twin = transformers_twin(net, fields, tmp_path)
    hidden_ND = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    for block, theirs in zip(net.layers, twin.model.layers, strict=True):
        routing = block.mlp.router(hidden_ND)
        logits_NE, weights_NK, experts_NK = theirs.mlp.router(hidden_ND)
        assert torch.equal(routing.experts_NK, experts_NK)
        torch.testing.assert_close(routing.weights_NK, weights_NK)
        torch.testing.assert_close(routing.probabilities_NE, logits_NE.softmax(-1))
        assert 1.5 < routing.weights_NK.sum(-1).mean() < 2.0  # not renormalised


@torch.no_grad()
def test_cached_steps_equal_transformers(tmp_path):
    fields = config()
    net = random_net(fields)
    twin = transformers_twin(net, fields, tmp_path)
    tokens_BT, cache = tokens(1, 12), GrowingCache(2)
    steps = [net(chunk_BT, cache=cache) for chunk_BT in tokens_BT.split([5, 1, 1, 1, 4], dim=1)]
    assert relative(torch.cat(steps, dim=1), twin(tokens_BT).logits) < 1e-5


@torch.no_grad()
def test_bfloat16_agrees_where_transformers_is_sure(tmp_path):
    fields = config()
    net = random_net(fields).bfloat16()
    twin = transformers_twin(net, fields, tmp_path)
    ours_BTV, theirs_BTV = net(tokens(8, 16)).float(), twin(tokens(8, 16)).logits.float()
    assert relative(ours_BTV, theirs_BTV) < 0.1
    best_BT2 = theirs_BTV.topk(2).values
    step = best_BT2[..., 0] * 2**-7  # bfloat16 has 8 bits; a routing decision may flip besides
    sure_BT = best_BT2[..., 0] - best_BT2[..., 1] > 8 * step
    assert sure_BT.float().mean() > 0.4
    assert torch.equal(ours_BTV.argmax(-1)[sure_BT], theirs_BTV.argmax(-1)[sure_BT])


@pytest.mark.parametrize("jitter", [0.01, 0.2])  # the released margin leaves one expert to most tokens; a wide one
def test_training_gradients_equal_transformers_with_the_same_draws(tmp_path, jitter):
    fields = config(router_jitter_noise=jitter)
    net = random_net(fields).train()
    twin = transformers_twin(net, fields, tmp_path).train()
    tokens_BT = tokens(3, 16)
    slope_BTV = torch.randn(3, 16, 96, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(11)
    with as_transformers_draws():
        logits_BTV = net(tokens_BT)
    torch.manual_seed(11)
    their_logits_BTV = twin(tokens_BT).logits
    assert relative(logits_BTV, their_logits_BTV) < 1e-5
    if jitter == 0.2:
        assert relative(logits_BTV, net.eval()(tokens_BT)) > 0.01, "no other expert was drawn"
    (logits_BTV * slope_BTV).sum().backward()
    (their_logits_BTV * slope_BTV).sum().backward()
    wanted = their_gradients(twin)
    for name, parameter in net.named_parameters():
        assert relative(parameter.grad, wanted.pop(name)) < 1e-4, name
        assert parameter.grad.abs().sum() > 0 or jitter == 0.01, name
    assert not wanted


def their_gradients(twin) -> dict[str, torch.Tensor]:
    """transformers' gradients under our names."""
    found = {name.removeprefix("model."): p.grad for name, p in twin.named_parameters()}
    grads = {}
    for name, grad in found.items():
        ours = name.replace(".mlp.experts.", ".mlp.").replace(".mlp.router.", ".mlp.router.gate.")
        if ".q_proj." in ours:
            qkv = [found[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            grads[ours.replace("q_proj", "qkv_proj")] = torch.cat(qkv)
        elif ".k_proj." not in ours and ".v_proj." not in ours:
            grads[ours] = grad
    return grads


# ----------------------------------------------------------------------- where transformers is wrong: long rope


def sheet_rotation(fields: dict, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cos and sin of the sheet's section 2.2, computed apart from the package, float64."""
    rope, width = fields["rope_scaling"], fields["hidden_size"] // fields["num_attention_heads"]
    name = "long" if length > rope["original_max_position_embeddings"] else "short"
    angles = [
        [p / (factor * fields["rope_theta"] ** (2 * i / width)) for i, factor in enumerate(rope[f"{name}_factor"])] * 2
        for p in range(length)
    ]
    angles_TR = torch.tensor(angles, dtype=torch.float64)
    return angles_TR.cos() * rope[f"{name}_mscale"], angles_TR.sin() * rope[f"{name}_mscale"]


@pytest.mark.parametrize("length", [16, 17, 40])
def test_rotation_is_the_sheets_under_at_and_over_the_switch(length):
    fields = config(**OTHER_SCALES)
    rotation = random_net(fields).position(torch.arange(length)[None])
    for got_BTR, wanted_TR in zip(rotation[:2], sheet_rotation(fields, length), strict=True):
        torch.testing.assert_close(got_BTR[0].double(), wanted_TR, atol=1e-5, rtol=0)


@torch.no_grad()
def test_past_the_switch_transformers_keeps_the_short_frequencies(tmp_path):
    fields = config()
    net = random_net(fields)
    twin = transformers_twin(net, fields, tmp_path)
    tokens_BT = tokens(2, 40)
    logits_BTV, theirs_BTV = net(tokens_BT), twin(tokens_BT).logits
    assert relative(logits_BTV, theirs_BTV) > 0.05
    # its fault exactly: the long list's place taken by the short one
    wrong = config(rope_scaling={**fields["rope_scaling"], "long_factor": fields["rope_scaling"]["short_factor"]})
    faulty = build_net(PhiMoELayout().net(wrong)).eval()
    faulty.load_state_dict(net.state_dict())
    assert relative(faulty(tokens_BT), theirs_BTV) < 1e-5
    # and with the sheet's rotation put in its place, transformers gives our logits
    rotation = tuple(table_TR.float()[None] for table_TR in sheet_rotation(fields, 40))
    twin.model.rotary_emb.forward = lambda x, position_ids: rotation
    assert relative(logits_BTV, twin(tokens_BT).logits) < 1e-5


def test_the_released_magnitude_is_that_of_an_original_context_of_2048():
    """Read from the config, never computed: the lists switch at 4096, whose formula gives 1.190238 (section 1.6)."""
    from phi3kit.model.position import magnitude

    assert magnitude(131072, 2048) == pytest.approx(MSCALE, abs=1e-15)
    assert magnitude(131072, 4096) == pytest.approx(1.190238, abs=1e-6)
    rotation = random_net(config()).position(torch.arange(1)[None])
    torch.testing.assert_close(rotation.cos_BTR, torch.full_like(rotation.cos_BTR, MSCALE))


def test_input_jitter_is_not_transformers_double_jitter(tmp_path):
    fields = config(input_jitter_noise=0.5)
    net = random_net(fields).train()
    theirs = transformers_twin(net, fields, tmp_path).train().model.layers[0].mlp
    ours = net.layers[0].mlp
    seen = []
    theirs.experts.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    ours.router.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    for block in (theirs, ours):
        block(torch.ones(1, 400, 64))
    twice, once = (x.abs().max().item() for x in seen)
    assert 2.0 < twice <= 1.5**2
    assert 1.4 < once <= 1.5


# ------------------------------------------------------------------------------------------------ the balance loss


@pytest.mark.parametrize("padded", [False, True])
def test_balance_loss_equals_transformers(padded):
    from transformers.models.phimoe.modeling_phimoe import load_balancing_loss_func

    logits_NE = 2 * torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    real_BT = torch.ones(4, 15, dtype=torch.bool)
    if padded:
        real_BT[1, 9:] = real_BT[3, 2:] = False
    ours_NE, theirs_NE = logits_NE.clone().requires_grad_(), logits_NE.clone().requires_grad_()
    probabilities_NE = ours_NE.softmax(-1)
    weights_NK, experts_NK = probabilities_NE.topk(2)
    loss = balance_of(Routing(weights_NK, experts_NK, probabilities_NE), real_BT.flatten()).loss
    wanted = load_balancing_loss_func((theirs_NE,), 8, 2, real_BT.long() if padded else None)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(torch.autograd.grad(loss, ours_NE), torch.autograd.grad(wanted, theirs_NE))


def test_a_layers_loss_is_its_share_of_the_mean_over_layers():
    net = random_net(config(router_aux_loss_coef=0.02)).train()
    net(tokens(2, 16))
    found = list(net.auxiliaries(torch.ones(2, 16, dtype=torch.bool)))
    assert len(found) == 2
    for auxiliary in found:
        torch.testing.assert_close(auxiliary.loss, 0.02 / 2 * auxiliary.metrics["balance_loss"])
    assert not list(net.auxiliaries(torch.ones(2, 16, dtype=torch.bool))), "one pass is counted twice"
    mlp = net.layers[0].mlp
    assert isinstance(mlp, MixtureOfExperts)
    net.eval()(tokens(2, 16))
    assert mlp.auxiliary(torch.ones(2, 16, dtype=torch.bool)) is None
