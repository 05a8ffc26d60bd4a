"""Load, check and list plugins.

`listing()` reads metadata only and imports nothing. `load()` imports every plugin once; a broken one becomes
a `Fault` that names its distribution, and the others still work.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType

import pluggy

from phi3kit import hookspecs
from phi3kit.errors import nearest

GROUP = "phi3kit"
FIRST_PARTY = {  # of this repository's plugins/, for whoever has not installed them; a test compares
    "phi3kit-blocksparse": ("BlocksparseAttention", "GroupedDenseAttention", "GEGELUMLP", "Phi3SmallLayout"),
    "phi3kit-moe": ("MixtureOfExperts", "SparseMixer", "TopK", "PhiMoELayout"),
    "phi3kit-vision": (
        *("CLIPVision", "ImageTextBatches", "ImageConversationBatches", "ImagePreferenceBatches", "Phi3VLayout"),
    ),
}


@dataclass(frozen=True)
class Offer:
    """An entry point of an installed distribution, not yet imported."""

    distribution: str
    version: str
    entry_point: EntryPoint


@dataclass(frozen=True)
class Component:
    """A class that recipes may name."""

    cls: type
    family: type
    distribution: str
    version: str

    @property
    def name(self) -> str:
        return self.cls.__name__

    @property
    def path(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"


@dataclass(frozen=True)
class Fault:
    """Why a plugin, or one class of it, cannot be used."""

    distribution: str
    message: str

    def __str__(self) -> str:
        return f"plugin {self.distribution}: {self.message}"


@dataclass(frozen=True)
class Registry:
    """Everything that is installed and works, and what does not."""

    components: tuple[Component, ...]
    faults: tuple[Fault, ...]

    def find(self, name: str) -> Component | None:
        """The component of this short name or import path (packages may re-export a class higher up)."""
        package, _, short = name.rpartition(".")
        root = package.split(".")[0]
        return next((c for c in self.components if c.name == short and root in ("", c.path.split(".")[0])), None)

    def of(self, family: type) -> list[Component]:
        """The components of one family."""
        return [c for c in self.components if issubclass(c.cls, family)]


def listing() -> list[Offer]:
    """Installed plugins, this package's own first, from metadata alone."""
    offers = [
        Offer(_name(point.dist), point.dist.version if point.dist else "?", point)
        for point in entry_points(group=GROUP)
    ]
    return sorted(set(offers), key=lambda o: (o.distribution != "phi3kit", o.distribution, o.entry_point.name))


def _name(distribution: Distribution | None) -> str:
    return distribution.metadata["Name"] if distribution else "?"


@functools.cache
def load() -> Registry:
    """Import every plugin and collect its components (once per process)."""
    components: dict[str, Component] = {}
    faults: list[Fault] = []
    for offer in listing():
        try:
            module = offer.entry_point.load()
            candidates = list(_offered(module, offer))
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises, the others must still work
            faults.append(Fault(offer.distribution, _explain(error, offer)))
            continue
        for candidate in candidates:
            component = _judge(candidate, offer, components)
            if isinstance(component, Fault):
                faults.append(component)
            else:
                components[component.name] = component
    return Registry(tuple(components.values()), tuple(faults))


def warn_of_faults() -> None:
    """Tell once, on standard error, which plugins were left out."""
    for fault in load().faults:
        print(f"phi3kit: warning: {fault} (left out)", file=sys.stderr)


class _NoHook(Exception):
    pass


def _offered(module: ModuleType, offer: Offer) -> Iterator[object]:
    """What the module's hook returns. Its own manager, so that one plugin's fault stays its own."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=offer.entry_point.name)
    manager.check_pending()
    if not manager.hook.phi3kit_components.get_hookimpls():
        names = [n for n, f in vars(module).items() if inspect.isfunction(f) and n.startswith("phi3kit")]
        raise _NoHook(
            f"module {offer.entry_point.value!r} has no phi3kit_components marked with @hookimpl"
            + (f" (it has {', '.join(names)})" if names else "")
        )
    for batch in manager.hook.phi3kit_components():
        yield from batch


def _explain(error: BaseException, offer: Offer) -> str:
    if isinstance(error, _NoHook):
        return str(error)
    if isinstance(error, pluggy.PluginValidationError):
        wrong = [impl for impl in vars(error.plugin) if impl.startswith("phi3kit")]
        return (
            f"module {offer.entry_point.value!r} implements an unknown hook "
            f"({', '.join(wrong) or error}); the one hook is phi3kit_components"
        )
    return f"cannot import {offer.entry_point.value!r}: {type(error).__name__}: {error}"


def _judge(candidate: object, offer: Offer, known: dict[str, Component]) -> Component | Fault:
    from phi3kit.families import family_of

    if not inspect.isclass(candidate):
        return Fault(offer.distribution, f"phi3kit_components returned {candidate!r}, which is not a class")
    family = family_of(candidate)
    if family is None:
        return Fault(
            offer.distribution,
            f"{candidate.__name__} belongs to no family; subclass one of {', '.join(family_names())}",
        )
    if inspect.isabstract(candidate):
        missing = ", ".join(sorted(candidate.__abstractmethods__))  # type: ignore[attr-defined]
        return Fault(offer.distribution, f"{candidate.__name__} ({family.__name__}) leaves abstract: {missing}")
    rival = known.get(candidate.__name__)
    if rival is not None:
        return Fault(
            offer.distribution,
            f"{candidate.__name__} collides with the component of that name from {rival.distribution}; "
            "rename the class",
        )
    return Component(candidate, family, offer.distribution, offer.version)


def family_names() -> list[str]:
    """Names of every family known so far."""
    from phi3kit.families import Family

    return sorted(cls.__name__ for cls in Family.__subclasses__())


def unknown_component(name: str, family: type | None = None) -> str:
    """One line about a component name nothing provides."""
    registry = load()
    among = registry.of(family) if family else registry.components
    kind = f"{family.__name__} " if family else "component "
    if why := getattr(family, "not_here", {}).get(name):
        return f"the {kind}{name} is not available here: {why}; use {' or '.join(c.name for c in among)}"
    return f"no {kind}is called {name!r}{nearest(name, [c.name for c in among])}"


def missing_plugin(path: str, header: str = "") -> str:
    """One line about a component whose plugin is not installed; empty where that is not what is wrong.

    Args:
        path: short name or import path of the component.
        header: of a run's config.yaml, which names each component's distribution and version.
    """
    if load().find(path) is not None:
        return ""
    package, _, name = path.rpartition(".")
    root = package.split(".")[0]
    for distribution, names in FIRST_PARTY.items():
        if name in names and root in ("", distribution.replace("-", "_")):
            return f"{name} needs the plugin {distribution}: pip install -e plugins/{distribution}"
    said = re.search(rf"\b{re.escape(name)} \(([\w.-]+) ([\w.+!-]+)\)", header) if root else None
    if said and find_spec(root) is None:
        return f"{name} needs the plugin {said[1]} {said[2]}, which is not installed here"
    return ""
