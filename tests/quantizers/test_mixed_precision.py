"""Bits where they matter: the table is measured, the budget is kept, and harm is less than with equal bits."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch
import yaml
from quantized_nets import rows_of_text, trained_net
from recipe_folders import RECIPES
from torch import nn

from phi3kit import UserError
from phi3kit.export.calibration import quantize_net
from phi3kit.measures import kl_divergence
from phi3kit.model.load import build_net
from phi3kit.quantizers import GPTQ, MixedPrecision
from phi3kit.quantizers.grid import LinearGrid
from phi3kit.quantizers.mixed_precision import GRAPH_BYTES, GRAPH_SHARE
from phi3kit.quantizers.sensitivity import Option, bytes_of, choose, least, shown

GRIDS = (LinearGrid(4, None), LinearGrid(4, 32), LinearGrid(8, None))


def options(*pairs):
    return [Option(GRIDS[number], size, harm) for number, (size, harm) in enumerate(pairs)]


TABLE = {
    "a": options((40, 9.0), (45, 4.0), (80, 0.1)),
    "b": options((40, 1.0), (45, 0.6), (80, 0.01)),
    "c": options((100, 20.0), (110, 19.0), (200, 0.5)),
    "d": options((10, 0.5), (12, 0.7), (20, 0.0)),  # an option that costs more and does more harm
}


@pytest.mark.parametrize("room", [190, 200, 215, 260, 300, 380])
def test_the_choice_is_near_the_best_of_all(room):
    """No better choice exists in the room that is left without the largest step (the greedy bound on hulls)."""
    chosen = choose(TABLE, room)
    assert sum(option.bytes for option in chosen.values()) <= room
    harm = sum(option.harm for option in chosen.values())
    every = list(itertools.product(*TABLE.values()))
    best_in = lambda size: min(sum(o.harm for o in pick) for pick in every if sum(o.bytes for o in pick) <= size)  # noqa: E731
    assert harm <= best_in(max(190, room - 100))
    if room >= 380:
        assert harm == best_in(380)


def test_harmless_layers_stay_small():
    chosen = choose(TABLE, 200)
    assert chosen["a"].grid == GRIDS[1], "4 harm for 5 bytes comes first"
    assert chosen["c"].grid == GRIDS[0]
    assert least(TABLE) == 190


def quantized(quantizer, net):
    changed = copy.deepcopy(net)
    quantize_net(changed, quantizer, rows_of_text()[:32])
    return changed


def kl(net, changed):
    with torch.no_grad():
        wanted, got = (torch.cat([n(row[None])[0] for row in rows_of_text()[-8:]]) for n in (net, changed))
    return float(kl_divergence(wanted, got))


def weight_bytes(net):
    """Of the program's weights, from the tensors themselves."""
    total = 0
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            weight = module.weight
            bits = int(str(weight.target_dtype).removeprefix("torch.int"))
            total += weight.qdata.numel() * bits // 8 + weight.scale.numel() * weight.scale.element_size()
        else:
            total += sum(4 * p.numel() for p in module.parameters(recurse=False))
    return total


def test_between_four_and_eight_bits_it_loses_less_than_equal_bits_of_the_size():
    net = trained_net()
    equal = quantized(GPTQ(group_size=32, head_bits=4, embedding_bits=4, embedding_group=32), net)
    size = weight_bytes(equal)
    room = int(size * (1 + GRAPH_SHARE)) + GRAPH_BYTES + 1000
    quantizer = MixedPrecision(f"{room / 1000}KB")
    mixed = quantized(quantizer, net)
    assert weight_bytes(mixed) <= size + 1000
    assert 0 < kl(net, mixed) < kl(net, equal)
    larger = quantized(MixedPrecision(f"{room / 1000 * 1.25}KB"), net)
    assert kl(net, larger) < kl(net, mixed)
    described = quantizer.describe()
    assert json.loads(json.dumps(described)) == described
    assert len({(layer["bits"], layer["group_size"]) for layer in described["layers"].values()}) > 1
    assert sum(layer["bytes"] for layer in described["layers"].values()) < size + 1000


def test_a_budget_under_the_minimum_is_refused_with_the_minimum():
    net, text = trained_net(), rows_of_text()[:4]
    with pytest.raises(
        UserError, match=r"max_size 40KB is too small for this net; the least is (\d+\.\d+) KB"
    ) as error:
        quantize_net(copy.deepcopy(net), MixedPrecision("40KB"), text)
    minimum = str(error.value).rpartition(" is ")[2].replace(" ", "")
    assert type(net.lm_head.weight) is nn.Parameter
    quantizer = MixedPrecision(minimum)
    quantize_net(net, quantizer, text)
    assert {layer["bits"] for layer in quantizer.describe()["layers"].values()} == {4}
    assert {layer["group_size"] for layer in quantizer.describe()["layers"].values()} == {"row"}


def test_the_survey_leaves_the_net_as_it_is():
    net = trained_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    quantizer = MixedPrecision("1MB")
    from phi3kit.export.calibration import survey_net

    survey_net(net, quantizer, rows_of_text()[:2])
    assert {name for name, tensor in net.state_dict().items() if torch.equal(tensor, before[name])} == set(before)
    eight = [option.harm for found in quantizer.table.values() for option in found if option.grid.bits == 8]
    four = [option.harm for found in quantizer.table.values() for option in found if option.grid.bits == 4]
    assert len(eight) == 10
    assert 0 < max(eight) < min(four)


def test_sizes_are_read_and_said():
    assert bytes_of("2.3GB") == 2_300_000_000
    assert bytes_of(" 800 kb") == 800_000
    assert (shown(1_910_000_001), shown(2_500_000), shown(61_000)) == ("1.92 GB", "2.50 MB", "61.00 KB")
    with pytest.raises(UserError, match=r"size '2 gigs' cannot be read; say it in KB, MB or GB, e.g. 2.3GB"):
        MixedPrecision("2 gigs")


def test_without_a_survey_it_is_refused():
    with pytest.raises(UserError, match="has measured nothing yet"):
        MixedPrecision("1MB").plan(trained_net())
    with pytest.raises(UserError, match=r"MixedPrecision fits weights to text and has none; give `calibration:`"):
        quantize_net(trained_net(), MixedPrecision("1MB"))


def test_the_minimum_of_phi_3_mini_is_pure_four_bits():
    """1.91 GB of weights: 3.8 billion halves of a byte, scales and norms; nothing is measured or read for it."""
    net = build_net(yaml.safe_load((RECIPES / "phi3-mini" / "net.yaml").read_text())["net"], "meta")
    quantizer = MixedPrecision("1.8GB")
    sizes = quantizer.bytes(net)
    quantizer.table = {name: [Option(GRIDS[0], size, 0.1)] for name, size in sizes.items()}
    floats = 4 * (sum(p.numel() for p in net.parameters()) - sum(net.get_submodule(n).weight.numel() for n in sizes))
    quantizer._floats = {"all": floats}
    assert 1.910e9 < sum(sizes.values()) + floats < 1.916e9
    with pytest.raises(UserError, match=r"max_size 1.8GB is too small for this net; the least is 1.92 GB"):
        quantizer.plan(net)
