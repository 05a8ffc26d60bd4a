"""Phi-3.5-MoE, Phi-mini-MoE and Phi-tiny-MoE for phi3kit: experts, their routers, and the public layout."""

from __future__ import annotations

from phi3kit import hookimpl


@hookimpl
def phi3kit_components() -> list[type]:
    """The component classes of this distribution; imported here, so that importing this module stays cheap."""
    from phi3kit_moe.layout import PhiMoELayout
    from phi3kit_moe.mixture import MixtureOfExperts
    from phi3kit_moe.sparse_mixer import SparseMixer
    from phi3kit_moe.top_k import TopK

    return [MixtureOfExperts, SparseMixer, TopK, PhiMoELayout]
