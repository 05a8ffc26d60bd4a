"""The net and what generates from it."""

from phi3kit.model.attention import GroupedQueryAttention
from phi3kit.model.cache import GrowingCache
from phi3kit.model.decoder import Block, Decoder
from phi3kit.model.feed_forward import GatedMLP, GatedMLPApart
from phi3kit.model.layout import Phi3Layout
from phi3kit.model.norm import LayerNorm, RMSNorm
from phi3kit.model.position import LongRoPE, RoPE

__all__ = [
    "Block",
    "Decoder",
    "GatedMLP",
    "GatedMLPApart",
    "GroupedQueryAttention",
    "GrowingCache",
    "LayerNorm",
    "LongRoPE",
    "Phi3Layout",
    "RMSNorm",
    "RoPE",
]
