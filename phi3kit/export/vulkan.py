"""Android's GPUs: Vulkan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

import torch

from phi3kit.export.lowering import lowered
from phi3kit.families import Backend, Programs
from phi3kit.native_output import silenced

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@final
class Vulkan(Backend):
    """Lowers to Vulkan, ExecuTorch's delegate for Android's GPUs: attention and cache, the linear layers and the
    embedding are one delegate.

    What it cannot do: run on this computer, so that its logits and tokens are not proven; keep its cache in 8 bits;
    attend by windows or patterns within the context, or slide; see images. Apps link executorch-android-vulkan.
    """

    form = "batch of one"
    cannot = {  # ExecuTorch 1.4: without a kernel, or lowered to what cannot be loaded
        "slide": "has no cache that slides; set at_end: fail, or leave backend out (XNNPACK)",
        "int8 cache": "keeps its cache in fp32 alone; set cache: float, or leave backend out (XNNPACK)",
        "windows": "attends over a whole context, and this net has windows or patterns; set a shorter one, or leave "
        "backend out (XNNPACK)",
        "vision": "lowers text alone, and this net sees; leave backend out (XNNPACK)",
    }

    note = "lowered for Vulkan, which runs on phones alone: the proof has not seen its logits and tokens"

    def lower(self, program: Programs, metadata: Mapping[str, Any]) -> bytes:
        """The `.pte`. Scales of 4-bit weights become fp32, the same numbers: of bfloat16 Vulkan makes no kernel."""
        assert not isinstance(program, Mapping)
        with silenced(), _widened(program):
            from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

            return lowered(program, VulkanPartitioner(), metadata).buffer

    @property
    def delegates(self) -> frozenset[str]:
        """VulkanBackend alone."""
        return frozenset({"VulkanBackend"})


@contextlib.contextmanager
def _widened(program: ExportedProgram) -> Iterator[None]:
    """Meanwhile, weights with fp32 scales in place of bfloat16 ones: the net's, and what the graph knows of them."""
    known = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
    weights: list[Any] = [
        weight
        for weight in (*program.state_dict.values(), *known)
        if getattr(getattr(weight, "scale", None), "dtype", None) == torch.bfloat16
    ]
    narrow = [weight.scale for weight in weights]
    for weight, scale in zip(weights, narrow, strict=True):
        weight.scale = scale.float()
    try:
        yield
    finally:
        for weight, scale in zip(weights, narrow, strict=True):
            weight.scale = scale
