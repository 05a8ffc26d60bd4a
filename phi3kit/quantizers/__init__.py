"""Low-bit weights: what a phone can hold."""

from phi3kit.quantizers.int8_dynamic_int4 import Int8DynamicInt4Weight

__all__ = ["Int8DynamicInt4Weight"]
