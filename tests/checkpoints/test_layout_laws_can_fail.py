"""The laws of layouts catch a layout that breaks one, and say which."""

from __future__ import annotations

import pytest
from public_checkpoints import BASE, INV_FREQ, MODELS

from phi3kit.families import Layout, Part
from phi3kit.model import Phi3Layout
from phi3kit.testing import contracts

INNER = Phi3Layout()


class Bad(Layout):
    """Phi3's layout with one thing done wrong; not final, on purpose."""

    architectures = INNER.architectures

    def net(self, config):
        return INNER.net(config)

    def config(self, net):
        return INNER.config(net)

    def parts(self, net):
        return INNER.parts(net)

    def unused(self, name):
        return INNER.unused(name)


class ForgetsTheWindow(Bad):
    def config(self, net):
        config = INNER.config(net)
        return config and {**config, "sliding_window": None}


class ClaimsEveryNet(Bad):
    def config(self, net):
        return INNER.config({**net, "norm": None})


class InventsSizes(Bad):
    def net(self, config):
        return INNER.net({**BASE, **config})


class WritesWhatItCannotRead(Bad):
    def config(self, net):
        config = INNER.config(net)
        return config and {**config, "architectures": ["Phi5ForCausalLM"]}


class LosesRows(Bad):
    def parts(self, net):
        return [
            Part(theirs, ours, (slice(0, 8),)) if "down_proj" in theirs else Part(theirs, ours)
            for theirs, ours, _ in INNER.parts(net)
        ]


class FillsTwice(Bad):
    def parts(self, net):
        return [*INNER.parts(net), Part("again", "norm.weight")]


class NamesTwice(Bad):
    def parts(self, net):
        return [Part(theirs.replace(".1.", ".0."), ours) for theirs, ours, _ in INNER.parts(net)]


class CallsAPartUnused(Bad):
    def unused(self, name):
        return "layernorm" in name


@pytest.mark.parametrize(
    ("layout", "law"),
    [
        (ForgetsTheWindow, r"net\(config\(net\)\) == net; as read, it differs in attention"),
        (ClaimsEveryNet, r"config\(net\) is None for a net of other components; not so for another norm"),
        (InventsSizes, "a config.json that lacks its sizes is refused"),
        (WritesWhatItCannotRead, "an architecture it reads; it writes Phi5ForCausalLM"),
        (LosesRows, r"cover every number of the net exactly once .*; not so for \d+ of \d+ numbers of .*down_proj"),
        (FillsTwice, r"cover every number of the net exactly once .*; not so for 64 of 64 numbers of norm\.weight"),
        (NamesTwice, "the names of a layout differ"),
        (CallsAPartUnused, "a tensor is used or unused"),
    ],
)
def test_lawless_layout(layout, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check_layout(layout, BASE)


def test_a_tensor_that_nobody_told_is_unused():
    with pytest.raises(contracts.LawBroken, match=r"unused tensors are known to be; \['somewhere'\] are not"):
        contracts.check_layout(Phi3Layout, BASE, unused=["somewhere"])


def test_lawful_layout():
    contracts.check_layout(Phi3Layout, MODELS["phi-4-mini"], unused=[INV_FREQ])
    contracts.check(Phi3Layout)
