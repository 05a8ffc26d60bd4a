"""Phi-3-small's parts: blocksparse and dense attention over grouped rows, GEGELU, and its public layout."""

from phi3kit import hookimpl


@hookimpl
def phi3kit_components() -> list[type]:
    """What this plugin brings."""
    from phi3kit_blocksparse.attention import BlocksparseAttention, GroupedDenseAttention
    from phi3kit_blocksparse.feed_forward import GEGELUMLP
    from phi3kit_blocksparse.layout import Phi3SmallLayout

    return [BlocksparseAttention, GroupedDenseAttention, GEGELUMLP, Phi3SmallLayout]
