"""The components keep their families' laws, phi3kit finds them, and each does what it is for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from acme_calm import phi3kit_components
from acme_calm.attention import AcmeCalmAttention
from acme_calm.filter import AcmeCalmFilter

from phi3kit import Document, plugins
from phi3kit.testing import contracts, tiny


@pytest.mark.parametrize("component", phi3kit_components())
def test_component_keeps_the_laws_of_its_family(component: type) -> None:
    contracts.check(component)


def test_the_laws_hold_with_other_options() -> None:
    contracts.check(AcmeCalmAttention, partial(AcmeCalmAttention, norm_eps=1e-6))


def test_phi3kit_finds_the_components() -> None:
    registry = plugins.load()
    found = {c.cls for c in registry.components if c.distribution == "acme-calm"}
    assert found == set(phi3kit_components()), registry.faults


def test_attention_does_not_depend_on_the_size_of_queries_and_keys() -> None:
    net, tokens_BT = tiny.net(attention=AcmeCalmAttention), tiny.batch().tokens_BT
    with torch.no_grad():
        before_BTV = net(tokens_BT)
        attention = net.layers[0].self_attn
        assert isinstance(attention, AcmeCalmAttention)
        values = attention.kv_heads * attention.head_dim
        attention.qkv_proj.weight[:-values] *= 100  # queries and keys, not values
        torch.testing.assert_close(net(tokens_BT), before_BTV, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("text", "reason"), [("HELP ME", "mostly capitals"), ("Help me", None), ("12 + 3", None)])
def test_filter(text: str, reason: str | None) -> None:
    assert AcmeCalmFilter().reject(Document("1", text)) == reason
