"""Low-bit weights: what a phone can hold."""

from phi3kit.quantizers.gptq import GPTQ
from phi3kit.quantizers.int8_dynamic_int4 import Int8DynamicInt4Weight
from phi3kit.quantizers.int8_dynamic_int8 import Int8DynamicInt8Weight
from phi3kit.quantizers.mixed_precision import MixedPrecision
from phi3kit.quantizers.weight_only import WeightOnly

__all__ = ["GPTQ", "Int8DynamicInt4Weight", "Int8DynamicInt8Weight", "MixedPrecision", "WeightOnly"]
