"""The components keep the laws of their families, and phi3kit finds them."""

from __future__ import annotations

from functools import partial

import pytest
from phi3kit_moe import phi3kit_components
from phi3kit_moe.mixture import MixtureOfExperts
from phi3kit_moe.sparse_mixer import SparseMixer
from phi3kit_moe.top_k import TopK

from phi3kit import plugins
from phi3kit.testing import contracts

BUILDS = [
    (SparseMixer, SparseMixer),
    (SparseMixer, partial(SparseMixer, jitter=0.1, chosen=3)),
    (TopK, TopK),
    (TopK, partial(TopK, chosen=1, renormalise=False)),
    (MixtureOfExperts, partial(MixtureOfExperts, router=SparseMixer)),
    (MixtureOfExperts, partial(MixtureOfExperts, router=TopK, n_experts=4, inner_width=24, input_jitter=0.1)),
]


@pytest.mark.parametrize(("component", "build"), BUILDS)
def test_component_keeps_the_laws_of_its_family(component, build):
    contracts.check(component, build)


def test_phi3kit_finds_the_components():
    registry = plugins.load()
    found = {c.cls for c in registry.components if c.distribution == "phi3kit-moe"}
    assert found == set(phi3kit_components()), registry.faults
