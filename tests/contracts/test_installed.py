"""Every installed component keeps the laws of its family; a plugin's components are checked with ours.

Components whose constructor wants something are built by the examples of `component_examples`; a plugin's such
components are checked by the plugin's own tests (``phi3kit new-plugin`` writes one that shows how).
"""

from __future__ import annotations

import inspect

import pytest
from component_examples import bad_files, documents, examples

from phi3kit import plugins
from phi3kit.testing import contracts

COMPONENTS = plugins.load().components
EXAMPLES = examples()
GIVEN = {
    "Attention": 2, "FeedForward": 2, "Position": 1, "Phase": 2, "Batches": 1, "Norm": 1, "Router": 2,
    "VisionEncoder": 1,
}  # leading arguments  # fmt: skip
IN_PLUGINS = {"Router", "VisionEncoder"}  # families that only first-party plugins have components of

CASES = [
    pytest.param(component, build, id=f"{component.distribution}:{component.name}" + (f":{label}" if label else ""))
    for component in COMPONENTS
    for label, build in (EXAMPLES.get(component.name) or {"": None}).items()
]


def wants(component: plugins.Component) -> list[str]:
    """Options without a default."""
    given = GIVEN.get(component.family.__name__, 0)
    options = list(inspect.signature(component.cls).parameters.values())[given:]
    return [option.name for option in options if option.default is option.empty]


@pytest.mark.parametrize(("component", "build"), CASES)
def test_installed_component_keeps_the_laws(component, build):
    if build is None and wants(component) and component.distribution != "phi3kit":
        pytest.skip(f"wants {', '.join(wants(component))}; {component.distribution}'s own tests check it")
    if component.family.__name__ not in contracts.LAWS and component.distribution != "phi3kit":
        pytest.skip(f"{component.family.__name__} is {component.distribution}'s own family; its own tests check it")
    if component.family.__name__ == "VisionEncoder" and build is None:
        pytest.skip(f"minutes of work at its real size; {component.distribution}'s own tests check a small one")
    if component.family.__name__ == "Synthesizer" and component.distribution == "phi3kit":
        contracts.check_synthesizer(build or component.cls, documents())
    else:
        contracts.check(component.cls, build)


@pytest.mark.parametrize("name", bad_files())
def test_reader_names_a_bad_file(name):
    (good,) = EXAMPLES[name].values()
    contracts.check_reader(good, bad_files()[name])


def test_every_family_with_laws_ships_a_component():
    offered = {c.family.__name__ for c in COMPONENTS if c.distribution == "phi3kit"}
    assert offered | IN_PLUGINS == set(contracts.LAWS)


def test_every_example_is_needed():
    ours = {c.name: c for c in COMPONENTS if c.distribution == "phi3kit"}
    assert all(wants(ours[name]) for name in EXAMPLES)


def test_no_plugin_is_broken():
    assert not plugins.load().faults
