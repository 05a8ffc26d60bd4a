"""A plugin for phi3kit: an attention and a filter."""

from __future__ import annotations

from phi3kit import hookimpl


@hookimpl
def phi3kit_components() -> list[type]:
    """The component classes of this distribution; imported here, so that importing this module stays cheap."""
    from acme_calm.attention import AcmeCalmAttention
    from acme_calm.filter import AcmeCalmFilter

    return [AcmeCalmAttention, AcmeCalmFilter]
