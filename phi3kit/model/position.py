"""Rotary positions: plain RoPE and LongRoPE.

Special here: a rotation is looked up in a table that already holds each angle twice (once per half of the
rotated dimensions), which is what ExecuTorch lowers best, and LongRoPE has two tables, of which one forward
pass uses one, chosen by its longest sequence.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.bounds import Positive, PositiveShare
from phi3kit.errors import UserError
from phi3kit.families import Position, Rotation
from phi3kit.records import Dims


def rotate(x_BTHK: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the first R of K dimensions, first half paired with second half; the rest passes through."""
    cos, sin = rotation.cos_BTR.unsqueeze(2), rotation.sin_BTR.unsqueeze(2)
    if rotation.turns_KK is not None:
        turned = F.linear(x_BTHK, next(rotation.turns_KK).to(x_BTHK.dtype))
        return x_BTHK * cos.to(x_BTHK.dtype) + turned * sin.to(x_BTHK.dtype)
    width = cos.shape[-1]
    turned, kept = x_BTHK[..., :width], x_BTHK[..., width:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos.to(x_BTHK.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x_BTHK.dtype)
    return turned if kept.shape[-1] == 0 else torch.cat((turned, kept), dim=-1)


def inverse_frequencies(rotary_dim: int, theta: float, factors: list[float] | None = None) -> Tensor:
    """``1 / (factor_i * theta^(2i/R))`` in fp32, [R/2] (LongRoPE, arXiv 2402.13753, section 3.1)."""
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.int64, device="cpu").float() / rotary_dim
    scale = torch.tensor(factors, dtype=torch.float32, device="cpu") if factors is not None else 1.0
    return 1.0 / (scale * theta**exponents)


def magnitude(context: int, original_context: int) -> float:
    """LongRoPE's attention scale: ``sqrt(1 + ln(s)/ln(original))`` for s = context/original > 1, else 1."""
    if context <= original_context:
        return 1.0
    return math.sqrt(1 + math.log(context / original_context) / math.log(original_context))


@final
class Table(nn.Module):
    """Cos and sin of every position, [S, R] fp32, times a magnitude.

    Empty at first, it grows when a longer sequence comes: a net on the meta device costs nothing, and a context of
    131,072 tokens costs memory only where it is used.
    """

    cos_SR: Tensor
    sin_SR: Tensor

    def __init__(self, frequencies_F: Tensor, scale: float) -> None:
        super().__init__()
        self.frequencies_F, self.scale, self.kept, self.turns = frequencies_F, scale, 0, 0
        self._fill(0, torch.device("cpu"))

    def fix(self, length: int, dims: Dims) -> None:
        """For a device: this long, and with a matrix for each time that a layer turns queries or keys.

        XNNPACK (ExecuTorch 1.4) takes no halves of what has varying lengths; a product costs little and is exact. Those
        that share a matrix it takes for one piece, whatever lies between them.
        """
        half, width = len(self.frequencies_F), dims.head_width
        turn_KK, at = torch.zeros(width, width), torch.arange(half)
        turn_KK[at, at + half], turn_KK[at + half, at] = -1.0, 1.0
        self.kept, self.turns = width - 2 * half, 2 * dims.n_layers
        for number in range(self.turns):
            self.register_buffer(f"turn_{number}_KK", turn_KK.clone(), persistent=False)
        self._fill(length, self.cos_SR.device)

    def _fill(self, length: int, device: torch.device) -> None:
        angles_SF = torch.arange(length, device="cpu").float()[:, None] * self.frequencies_F[None, :]
        angles_SR = torch.cat((angles_SF, angles_SF), dim=-1)
        for name, of, unturned in (("cos_SR", angles_SR.cos(), 1.0), ("sin_SR", angles_SR.sin(), 0.0)):
            numbers_SR = F.pad(of * self.scale, (0, self.kept), value=unturned)
            self.register_buffer(name, numbers_SR.to(device), persistent=False)

    def reach(self, length: int, device: torch.device | None = None) -> None:
        """Make the table at least this long (at once twice as long as it was), on this device, in fp32."""
        device = device or self.cos_SR.device
        short = length > self.cos_SR.shape[0]
        if short or device != self.cos_SR.device or self.cos_SR.dtype != torch.float32:
            self._fill(max(length, 2 * self.cos_SR.shape[0]) if short else self.cos_SR.shape[0], device)

    def forward(self, positions_BT: Tensor) -> Rotation:
        if not torch.compiler.is_exporting():
            self.reach(int(positions_BT.max()) + 1, positions_BT.device)
        turns = [self.get_buffer(f"turn_{number}_KK") for number in range(self.turns)]
        cos_BTR, sin_BTR = F.embedding(positions_BT, self.cos_SR), F.embedding(positions_BT, self.sin_SR)
        return Rotation(cos_BTR, sin_BTR, itertools.cycle(turns) if turns else None)


@final
class RoPE(Position):
    """Rotary position embedding (arXiv 2104.09864).

    Args:
        dims: the net's sizes.
        theta: base of the geometric series of wavelengths.
        rotary_fraction: share of each head's dimensions that is rotated (phi-4-mini: 0.75).
    """

    def __init__(self, dims: Dims, theta: Positive = 10000.0, rotary_fraction: PositiveShare = 1.0) -> None:
        super().__init__()
        self.dims = dims
        self.table = Table(inverse_frequencies(_rotary_dim(dims, rotary_fraction), theta), 1.0)

    def forward(self, positions_BT: Tensor) -> Rotation:
        return self.table(positions_BT)

    def fixed_for(self, context: int) -> RoPE:
        fixed = copy.deepcopy(self)
        fixed.table.fix(context, self.dims)
        return fixed


@final
class LongRoPE(Position):
    """RoPE with each wavelength stretched by its own factor (arXiv 2402.13753; Phi-3 128K).

    Sequences of up to `original_context` tokens use the short list, longer ones the long list; cos and sin
    are scaled by ``sqrt(1 + ln(s)/ln(original_context))``, s = context / original_context, unless an mscale says
    otherwise.

    Args:
        dims: the net's sizes; ``dims.context`` is the extended context.
        short_factor: one factor per rotated pair, for sequences within the original context.
        long_factor: one factor per rotated pair, for longer ones.
        original_context: the context the net was first trained for, in tokens.
        theta: base of the geometric series of wavelengths.
        rotary_fraction: share of each head's dimensions that is rotated.
        use: "auto" chooses the list by length; "short" or "long" pins one, as a bundle does.
        short_mscale: scale of cos and sin with the short list; null computes it.
        long_mscale: scale of cos and sin with the long list; null computes it.
    """

    def __init__(
        self,
        dims: Dims,
        short_factor: list[float],
        long_factor: list[float],
        original_context: int,
        theta: float = 10000.0,
        rotary_fraction: float = 1.0,
        use: Literal["auto", "short", "long"] = "auto",
        short_mscale: float | None = None,
        long_mscale: float | None = None,
    ) -> None:
        super().__init__()
        rotary_dim = _rotary_dim(dims, rotary_fraction)
        for name, factors in (("short_factor", short_factor), ("long_factor", long_factor)):
            if len(factors) != rotary_dim // 2:
                raise UserError(
                    f"{name} has {len(factors)} numbers; a rotary width of {rotary_dim} needs {rotary_dim // 2}"
                )
        self.original_context, self.dims = original_context, dims
        self.use = use
        scale = magnitude(dims.context, original_context)
        tables = {
            name: Table(inverse_frequencies(rotary_dim, theta, factors), scale if mscale is None else mscale)
            for name, factors, mscale in (("short", short_factor, short_mscale), ("long", long_factor, long_mscale))
            if use in ("auto", name)
        }
        self.tables = nn.ModuleDict(tables)

    def forward(self, positions_BT: Tensor) -> Rotation:
        if torch.compiler.is_exporting():
            (only,) = self.tables  # a bundle holds one list: see fixed_for
            return self._table(only)(positions_BT)
        longest = int(positions_BT.max()) + 1
        return self._table(("short", "long")[self.table_for(longest)])(positions_BT)

    def _table(self, name: str) -> Table:
        table = self.tables[name]
        assert isinstance(table, Table)
        return table

    def table_for(self, length: int) -> int:
        if self.use != "auto":
            return int(self.use == "long")
        return int(length > self.original_context)

    def fixed_for(self, context: int) -> LongRoPE:
        fixed = copy.deepcopy(self)
        fixed.use = ("short", "long")[self.table_for(context)]
        fixed.tables = nn.ModuleDict({fixed.use: fixed._table(fixed.use)})
        fixed._table(fixed.use).fix(context, self.dims)
        return fixed


def _rotary_dim(dims: Dims, fraction: float) -> int:
    width = int(dims.head_width * fraction)
    if width % 2:
        raise UserError(f"rotary width {width} is odd; head_dim x rotary_fraction must be even")
    return width
