"""GPTQ's arithmetic: round a matrix column by column, and let the columns to come make up for each error.

Frantar et al., arXiv 2210.17323, algorithm 1. Special here: a step is a group, so a group's scale is chosen from
weights that carry every correction so far; and it is chosen by what the errors cost after compensation.
Shapes: O outputs, I inputs, S columns of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.quantizers.grid import LinearGrid

ROWS = 2**14  # outputs that are fitted together: a head has many, and several copies are needed
STEP = 128  # columns between updates of the rest of the matrix, where a row has one scale
SHRINKS = torch.linspace(0.45, 1.05, 41)  # of a scale that just holds the largest weight
DAMPING_TRIES = 6


def compensated(weight_OI: Tensor, second_moment_II: Tensor, grid: LinearGrid, damping: float) -> tuple[Tensor, Tensor]:
    """The integers and scales of a grid under which the layer's outputs change little.

    Args:
        weight_OI: fp32.
        second_moment_II: sum over tokens of input times input; GPTQ's Hessian up to a factor.
        grid: bits and groups.
        damping: of the second moment's mean diagonal, added to its diagonal (section 3.3, step 3: 0.01).

    Returns:
        Integers [O, I] int8, scales [O, groups] in the grid's type.

    Raises:
        UserError: the inputs hold no finite numbers.
    """
    factor_II = _inverse_factor(second_moment_II, damping)
    parts = [_compensated_rows(rows_OI, factor_II, grid) for rows_OI in weight_OI.split(ROWS)]
    integers, scales = zip(*parts, strict=True)
    return torch.cat(integers), torch.cat(scales)


def _compensated_rows(weight_OI: Tensor, factor_II: Tensor, grid: LinearGrid) -> tuple[Tensor, Tensor]:
    """Of some rows, which do not depend on others."""
    weight_IO = weight_OI.t().contiguous()
    importance_I = factor_II.diagonal().pow(-2)  # an error e in column j costs importance_j e^2 in the end
    step = grid.group_size or STEP
    row_scale_O = None if grid.group_size else best_scale(weight_OI, importance_I, grid)
    integers_IO, scales = torch.empty_like(weight_IO, dtype=torch.int8), []
    for begin in range(0, len(weight_IO), step):
        part = slice(begin, begin + step)
        scale_O = row_scale_O
        if scale_O is None:
            scale_O = best_scale(weight_IO[part].t(), importance_I[part], grid)
            scales.append(scale_O)
        errors_SO = _round_step(weight_IO[part], factor_II[part, part], scale_O, grid, integers_IO[part])
        weight_IO[begin + step :] -= factor_II[part, begin + step :].t() @ errors_SO
    scale_OG = row_scale_O[:, None] if row_scale_O is not None else torch.stack(scales, dim=1)
    return integers_IO.t().contiguous(), scale_OG.contiguous()


def best_scale(weight_OS: Tensor, importance_S: Tensor, grid: LinearGrid) -> Tensor:
    """One scale per row, the best of `SHRINKS` by the weighted squared error, in the type the grid stores, [O]."""
    lowest, highest = limits(grid.bits)
    full_O = torch.maximum(weight_OS.amax(-1) / highest, weight_OS.amin(-1) / lowest).clamp(min=1e-9)
    best_O, least_O = full_O, torch.full_like(full_O, float("inf"))
    for shrink in SHRINKS:
        scale_O1 = stored(full_O * shrink, grid).float()[:, None]
        rounded_OS = (weight_OS / scale_O1).round_().clamp_(lowest, highest) * scale_O1
        error_O = (rounded_OS - weight_OS).square_() @ importance_S
        best_O = torch.where(error_O < least_O, scale_O1[:, 0], best_O)
        least_O = torch.minimum(error_O, least_O)
    return stored(best_O, grid)


def stored(scale: Tensor, grid: LinearGrid) -> Tensor:
    """Scales in the type that XNNPACK stores for the grid."""
    return scale.to(torch.bfloat16) if grid.bits == 4 else scale


def limits(bits: int) -> tuple[int, int]:
    """The smallest and the largest integer."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _round_step(weight_SO: Tensor, factor_SS: Tensor, scale_O: Tensor, grid: LinearGrid, into_SO: Tensor) -> Tensor:
    """Round the columns of one step in turn, each after the corrections of those before; their scaled errors."""
    lowest, highest = limits(grid.bits)
    scale_O = scale_O.float()
    errors_SO = torch.empty_like(weight_SO)
    for column in range(len(weight_SO)):
        integers_O = (weight_SO[column] / scale_O).round_().clamp_(lowest, highest)
        into_SO[column] = integers_O.to(torch.int8)
        error_O = (weight_SO[column] - integers_O * scale_O) / factor_SS[column, column]
        weight_SO[column + 1 :].addr_(factor_SS[column, column + 1 :], error_O, alpha=-1)
        errors_SO[column] = error_O
    return errors_SO


def _inverse_factor(second_moment_II: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the damped second moment's inverse, [I, I]; more damping where it has none."""
    if not torch.isfinite(second_moment_II).all():
        raise UserError("the calibration text makes numbers that are not finite; the net is broken, or not fp32")
    matrix = second_moment_II.clone()
    diagonal = matrix.diagonal()
    mean = diagonal.mean().clamp(min=1e-12)
    diagonal[diagonal == 0] = mean  # an input that was always zero: no error in its column costs anything here
    for attempt in range(DAMPING_TRIES):
        diagonal += mean * damping * (10**attempt)
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            inverse = torch.cholesky_inverse(lower)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                return upper
    raise UserError("the calibration text is too small or too uniform to fit weights to; give more of it")
