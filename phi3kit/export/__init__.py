"""A trained run -> a quantized program in a bundle, and its proof."""

from phi3kit.export.coreml import CoreML
from phi3kit.export.program import Program, metadata, trace
from phi3kit.export.vulkan import Vulkan
from phi3kit.export.xnnpack import XNNPACK

__all__ = ["XNNPACK", "CoreML", "Program", "Vulkan", "metadata", "trace"]
