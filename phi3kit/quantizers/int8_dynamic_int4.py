"""torchao's 8da4w: 4-bit weights in groups, activations rounded to 8 bits as they come.

Special here: the scales' types. XNNPACK stores a group's scale as bfloat16, so a linear layer gets bfloat16
scales already here and the eager net computes what the device does; an embedding's scales must stay fp32
(ExecuTorch 1.4 reads bfloat16 ones wrongly, without an error).
"""

from __future__ import annotations

import math
from typing import Any, Literal, final

import torch
from torch import nn

from phi3kit.errors import UserError
from phi3kit.families import Quantizer
from phi3kit.native_output import silenced

GROUP_UNIT = 32  # XNNPACK: "block size must be a multiple of 32"
HEAD = "lm_head"
BITS = {bits: getattr(torch, f"int{bits}") for bits in (2, 4, 8)}


@final
class Int8DynamicInt4Weight(Quantizer):
    """Linear layers with 4-bit weights and 8-bit dynamic activations; a quantized embedding (torchao "8da4w").

    Args:
        group_size: weights of a row that share a scale; a multiple of 32 that divides every layer's width.
        head_bits: 8 (one scale per row) or 4 (groups) for the output head, where errors cost most.
        embedding_bits: 8, 4 or 2; embeddings are only looked up, so their bits cost file size and nothing else.
        embedding_group: numbers of an embedding row that share a scale; divides the hidden size.
        method: "hqq" fits each group's scale to its weights (https://mobiusml.github.io/hqq_blog), "plain"
            takes it from their largest.
    """

    def __init__(
        self,
        group_size: int = 32,
        head_bits: Literal[4, 8] = 8,
        embedding_bits: Literal[2, 4, 8] = 8,
        embedding_group: int = 32,
        method: Literal["hqq", "plain"] = "hqq",
    ) -> None:
        if group_size < GROUP_UNIT or group_size % GROUP_UNIT:
            raise UserError(f"group_size {group_size} does not work; XNNPACK wants a multiple of {GROUP_UNIT}")
        for name, value, valid in (
            ("head_bits", head_bits, (4, 8)),
            ("embedding_bits", embedding_bits, (2, 4, 8)),
            ("method", method, ("hqq", "plain")),
        ):
            if value not in valid:
                raise UserError(f"{name} {value!r} does not work; use one of {', '.join(map(str, valid))}")
        if embedding_group < 4 or embedding_group % 4:
            raise UserError(f"embedding_group {embedding_group} does not work; use a multiple of 4")
        self.group_size, self.head_bits, self.method = group_size, head_bits, method
        self.embedding_bits, self.embedding_group = embedding_bits, embedding_group

    def quantize(self, net: nn.Module) -> None:
        """Quantize a net's linear layers and embeddings, in place; the net becomes fp32 elsewhere.

        Raises:
            UserError: a layer's width is no multiple of its group.
        """
        with silenced():
            from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig, quantize_
            from torchao.quantization.granularity import PerAxis, PerGroup

        self._check_widths(net)
        net.float()
        _untie(net)
        embedding = IntxWeightOnlyConfig(
            weight_dtype=BITS[self.embedding_bits], granularity=PerGroup(self.embedding_group)
        )
        linear = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=BITS[4],
            weight_granularity=PerGroup(self.group_size),
            weight_scale_dtype=torch.bfloat16,
            intx_choose_qparams_algorithm="hqq_scale_only" if self.method == "hqq" else "affine",
        )
        head = Int8DynamicActivationIntxWeightConfig(weight_dtype=BITS[8], weight_granularity=PerAxis(0))
        quantize_(net, embedding, lambda module, name: isinstance(module, nn.Embedding))
        quantize_(net, head if self.head_bits == 8 else linear, lambda module, name: _is_head(module, name))
        quantize_(net, linear, lambda module, name: isinstance(module, nn.Linear) and not _is_head(module, name))

    def describe(self) -> dict[str, Any]:
        """Bits, group sizes and method."""
        grouped = {"weight_bits": 4, "group_size": self.group_size, "scale": "bfloat16", "method": self.method}
        per_row = {"weight_bits": 8, "group_size": "row", "scale": "float32", "method": "plain"}
        return {
            "name": "8da4w",
            "activations": "int8, dynamic, per token",
            "linear": grouped,
            "head": grouped if self.head_bits == 4 else per_row,
            "embedding": {
                "weight_bits": self.embedding_bits,
                "group_size": self.embedding_group,
                "scale": "float32",
                "method": "plain",
            },
        }

    def _check_widths(self, net: nn.Module) -> None:
        """Every grouped row must divide into groups."""
        linear = {
            name: module.in_features
            for name, module in net.named_modules()
            if isinstance(module, nn.Linear) and not (self.head_bits == 8 and _is_head(module, name))
        }
        embedding = {n: m.embedding_dim for n, m in net.named_modules() if isinstance(m, nn.Embedding)}
        _check_divides("group_size", self.group_size, linear, GROUP_UNIT)
        _check_divides("embedding_group", self.embedding_group, embedding, 4)


def _check_divides(option: str, group: int, widths: dict[str, int], unit: int) -> None:
    """Raise `UserError` naming the first layer whose width is no multiple, and the groups that fit all."""
    common = math.gcd(*widths.values())
    for name, width in widths.items():
        if width % group:
            fitting = [str(g) for g in range(unit, min(common, 256) + 1, unit) if common % g == 0]
            instead = (
                f"{option} {' or '.join(fitting)} fits every layer"
                if fitting
                else (f"no {option} fits every layer; make the net's widths multiples of {unit}")
            )
            raise UserError(f"{name} is {width} wide, not a multiple of {option} {group}; {instead}")


def _is_head(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and name.rpartition(".")[2] == HEAD


def _untie(net: nn.Module) -> None:
    """Give linear layers that share their weight with an embedding a copy: each is quantized its own way."""
    embeddings = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}
    for module in net.modules():
        if isinstance(module, nn.Linear) and id(module.weight) in embeddings:
            module.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)
