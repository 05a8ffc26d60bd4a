"""The whole extension surface: one hook that returns classes.

A plugin is a distribution with an entry point in the group ``phi3kit`` that names a module like this::

    from phi3kit import hookimpl

    @hookimpl
    def phi3kit_components():
        from my_plugin.attention import MyAttention
        return [MyAttention]
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

PROJECT = "phi3kit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def phi3kit_components() -> Iterable[type]:  # type: ignore[empty-body]
    """Return the component classes this distribution offers: concrete subclasses of a family."""
