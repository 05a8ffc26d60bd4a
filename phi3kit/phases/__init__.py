"""Training: one LightningModule per kind of loss, one data module per kind of data.

Importing this room imports lightning, and silences what it says about itself.
"""

from phi3kit import torchvision_ops

torchvision_ops.declare()

from phi3kit.phases.quiet import hush  # noqa: E402

hush()

from phi3kit.phases.batches import Batches, ConversationBatches, PreferenceBatches, TokenStream  # noqa: E402
from phi3kit.phases.callbacks import LossByLength, SampleLog  # noqa: E402
from phi3kit.phases.dpo import DPO  # noqa: E402
from phi3kit.phases.next_token import NextToken  # noqa: E402
from phi3kit.phases.phase import Phase, Schedule  # noqa: E402

__all__ = [
    "DPO",
    "Batches",
    "ConversationBatches",
    "LossByLength",
    "NextToken",
    "Phase",
    "PreferenceBatches",
    "SampleLog",
    "Schedule",
    "TokenStream",
]
