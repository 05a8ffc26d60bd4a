"""Training a net as the 4-bit net it will be: what is exported equals what was trained."""

from __future__ import annotations

from typing import Any, final

from lightning import Callback, LightningModule, Trainer

from phi3kit.errors import UserError
from phi3kit.families import Quantizer
from phi3kit.phases.phase import Phase
from phi3kit.quantizers import Int8DynamicInt4Weight, Int8DynamicInt8Weight
from phi3kit.quantizers.imitation import imitate


@final
class QuantizationAware(Callback):
    """Rounds weights and activations in every forward pass as the quantizer will (QAT, with torchao), while the
    optimizer moves float weights. Export the run with the same quantizer: its program then computes what was trained.

    It rounds `nn.Linear` and `nn.Embedding` layers; experts that lie in one stacked tensor are trained as they are.
    Train in fp32, a little, at a low rate, after everything else.

    Args:
        quantizer: what the run will be exported with: `Int8DynamicInt4Weight` with ``method: plain`` (a fit would
            choose other scales in the end), or `Int8DynamicInt8Weight`.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        fits = getattr(quantizer, "method", "plain") == "plain"
        if not fits or not isinstance(quantizer, Int8DynamicInt4Weight | Int8DynamicInt8Weight):
            raise UserError(
                f"QuantizationAware cannot imitate {type(quantizer).__name__}"
                f"{'' if fits else ' with another method than plain'}; "
                "use Int8DynamicInt4Weight with method: plain, or Int8DynamicInt8Weight"
            )
        self.quantizer = quantizer
        self.report: dict[str, Any] = {"trained_for": quantizer.describe()}

    def setup(self, trainer: Trainer, phase: LightningModule, stage: str) -> None:
        assert isinstance(phase, Phase)
        imitate(phase.net, self.quantizer.grids)
