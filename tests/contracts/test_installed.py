"""Every installed component keeps the laws of its family; a plugin's components are checked with ours.

Components whose constructor wants something are built by the examples below; a plugin's such components are
checked by the plugin's own tests (``phi3kit new-plugin`` writes one that shows how).
"""

from __future__ import annotations

import inspect
from functools import partial

import pytest

from phi3kit import plugins
from phi3kit.testing import contracts

COMPONENTS = plugins.load().components
GIVEN = {"Attention": 2, "FeedForward": 2, "Position": 1, "Phase": 2}  # leading arguments the house passes


def examples() -> dict[str, partial]:
    """How to build the components of this distribution that have no default for every option."""
    from phi3kit.model import LongRoPE

    return {
        "LongRoPE": partial(LongRoPE, short_factor=[1.0] * 4, long_factor=[1.1, 2, 3, 4], original_context=16),
    }


EXAMPLES = examples()


def wants(component: plugins.Component) -> list[str]:
    """Options without a default."""
    given = GIVEN.get(component.family.__name__, 0)
    options = list(inspect.signature(component.cls).parameters.values())[given:]
    return [option.name for option in options if option.default is option.empty]


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: f"{c.distribution}:{c.name}")
def test_installed_component_keeps_the_laws(component):
    if wants(component) and component.name not in EXAMPLES and component.distribution != "phi3kit":
        pytest.skip(f"wants {', '.join(wants(component))}; {component.distribution}'s own tests check it")
    contracts.check(component.cls, EXAMPLES.get(component.name))


def test_every_family_with_laws_ships_a_component():
    offered = {c.family.__name__ for c in COMPONENTS if c.distribution == "phi3kit"}
    assert offered == set(contracts.LAWS)


def test_every_example_is_needed():
    ours = {c.name: c for c in COMPONENTS if c.distribution == "phi3kit"}
    assert all(wants(ours[name]) for name in EXAMPLES)


def test_no_plugin_is_broken():
    assert not plugins.load().faults
