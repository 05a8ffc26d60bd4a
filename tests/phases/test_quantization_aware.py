"""Training through the rounding: what is quantized in the end computes what was trained, and a run resumes."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from arithmetic import RECIPE
from keeping_checkpoints import as_if_stopped, keeping_checkpoints
from quantized_nets import rows_of_text, trained_net

from phi3kit import Dims, UserError
from phi3kit.cli import main
from phi3kit.model import Decoder, GatedMLP, GroupedQueryAttention, RoPE
from phi3kit.model.load import load_run
from phi3kit.phases import NextToken, QuantizationAware
from phi3kit.quantizers import GPTQ, Int8DynamicInt4Weight, Int8DynamicInt8Weight
from phi3kit.quantizers.imitation import imitate
from phi3kit.testing import tiny
from phi3kit.verbs.export_order import trained_otherwise

QUANTIZERS = {
    "groups of 32": Int8DynamicInt4Weight(method="plain"),
    "groups of 64, 4-bit head, 2-bit embedding": Int8DynamicInt4Weight(64, 4, 2, None, "plain"),
    "a scale per row": Int8DynamicInt4Weight(None, 8, 4, 32, "plain"),
    "8 bits": Int8DynamicInt8Weight(),
}


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
@torch.no_grad()
def test_the_quantized_net_computes_what_was_trained(quantizer, tied):
    dims = Dims(96, 64, 2, 4, n_kv_heads=2, intermediate_size=128)
    net = Decoder(dims, [GroupedQueryAttention], [GatedMLP], RoPE, tied=tied, init_std=0.2).eval()
    quantized = copy.deepcopy(net)
    quantizer.quantize(quantized)
    floats, tokens_BT = net(tiny.batch().tokens_BT), tiny.batch().tokens_BT
    names = list(net.state_dict())
    imitate(net, quantizer.grids)
    imitate(net, quantizer.grids)  # a second stage of a trainer changes nothing
    trained = net(tokens_BT)
    assert list(net.state_dict()) == names
    assert (net.lm_head.weight is net.embed_tokens.weight) == tied
    assert float((trained - quantized(tokens_BT)).abs().max()) <= 1e-6 * float(trained.abs().max())
    assert float((trained - floats).abs().max()) > 1e-2 * float(trained.abs().max())


def test_every_parameter_learns():
    net = tiny.net().train()
    phase = NextToken(net, torch.optim.AdamW)
    QuantizationAware(QUANTIZERS["groups of 32"]).setup(None, phase, "fit")
    phase.compute(tiny.batch()).total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def loss(net, rows):
    rows_BT = torch.stack(rows)
    return F.cross_entropy(net(rows_BT[:, :-1]).flatten(0, 1), rows_BT[:, 1:].flatten())


def test_weights_trained_through_the_rounding_survive_it_better():
    """One scale per row; loss on the learned text after the same twenty steps, with the rounding and without."""
    quantizer, text = QUANTIZERS["a scale per row"], rows_of_text()[:32]
    after = {}
    for name in ("rounded", "float"):
        net = trained_net().requires_grad_(True)
        if name == "rounded":
            imitate(net, quantizer.grids)
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
        for _ in range(20):
            optimizer.zero_grad()
            loss(net, text).backward()
            optimizer.step()
        exported = trained_net()
        exported.load_state_dict(net.state_dict())
        with torch.no_grad():
            quantizer.quantize(exported)
            after[name] = float(loss(exported, text))
    assert after["rounded"] < after["float"], after


def run(folder: Path, out: str) -> Path:
    callback = {"class_path": "QuantizationAware"}
    options = {"group_size": 32, "embedding_bits": 4, "method": "plain"}
    callback["init_args"] = {"quantizer": {"class_path": "Int8DynamicInt4Weight", "init_args": options}}
    recipe = {**RECIPE, "trainer": {**RECIPE["trainer"], "max_steps": 9, "callbacks": [callback]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", "--recipe", "recipe.yaml", "--out", out]) == 0
    return folder / out


def test_a_recipe_trains_through_it_and_resumes(arithmetic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(arithmetic)
    with keeping_checkpoints():
        done = run(arithmetic, "trained")
    weights = (done / "model.safetensors").read_bytes()
    report = json.loads((done / "report.json").read_text())
    assert report["after"]["loss"] < report["before"]["loss"] - 0.1
    assert report["trained_for"]["embedding"]["weight_bits"] == 4
    assert load_run(done).dims.hidden_size == 32
    assert trained_otherwise(done, Int8DynamicInt4Weight(embedding_bits=4, method="plain")) == ""
    assert "groups of 32, method plain; with another" in trained_otherwise(done, Int8DynamicInt4Weight())
    assert trained_otherwise(arithmetic, None) == "", "no report of a run"
    assert as_if_stopped(done)[-1] == "step-00000006.ckpt"
    run(arithmetic, "trained")
    assert (done / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("quantizer", "message"),
    [
        (Int8DynamicInt4Weight(), "cannot imitate Int8DynamicInt4Weight with another method than plain; use"),
        (GPTQ(), "cannot imitate GPTQ; use Int8DynamicInt4Weight with method: plain, or Int8DynamicInt8Weight"),
    ],
)
def test_what_cannot_be_imitated(quantizer, message):
    with pytest.raises(UserError, match=message):
        QuantizationAware(quantizer)
